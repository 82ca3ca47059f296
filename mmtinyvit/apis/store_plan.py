"""What a store would cost, how much of the teacher it would keep, and how many views there is room and time for."""
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmtinyvit.engine.record_rule import sparsify
from mmtinyvit.engine.teacher import Teacher
from mmtinyvit.errors import UserError
from mmtinyvit.store import Record, codec_names, make_codec
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.layout import CANARY_EVERY, default_samples_per_shard
from mmtinyvit.store.shard import shard_bytes

__all__ = ['check_limits', 'free_bytes', 'plan_store', 'recommend', 'recommend_views', 'weigh_codecs']

TRY_TOPK = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DEFAULT_CODEC = 'compact'
_MIXING_BYTES = 8
_LEAST = 1e-12  # a class that a store rules out, but the teacher does not, would make the divergence infinite


def _probe(teacher: Teacher, loader: dict, view: int, num_images: int) -> tuple[np.ndarray, float]:
    """Log-probabilities ``(n, C)`` float32 of images spread evenly over the dataset, and images per second.

    The teacher's records keep all classes. The first batch is not timed, if there are more.
    """
    count = min(num_images, len(teacher.dataset))
    positions = np.unique(np.linspace(0, len(teacher.dataset) - 1, count).round().astype(np.int64))
    size = loader['batch_size']
    outputs, start, timed = [], time.perf_counter(), 0
    for _, batch in teacher.batches(view, positions, size, loader.get('num_workers', 0)):
        record = teacher.ask(batch)
        outputs.append(np.empty_like(record.log_prob))
        np.put_along_axis(outputs[-1], record.index, record.log_prob, 1)
        if len(outputs) == 1 and len(positions) > size:
            start = time.perf_counter()
        else:
            timed += len(outputs[-1])
    return np.concatenate(outputs), timed / (time.perf_counter() - start)


def weigh_codecs(log_prob: np.ndarray, mixing: bool = False, other_view: np.ndarray | None = None,
                 views: int = 1) -> list[dict[str, Any]]:
    """What is kept of dense outputs, by K and codec.

    Args:
        log_prob: ``(n, C)`` float32.
        mixing: Whether records name partners.
        other_view: ``(n, C)`` float32, of the same images in another view, which some codecs save bytes for.
        views: How many views there will be.

    Returns:
        One dict per K and codec: ``topk``, ``codec``, ``bytes`` (per view of a sample, without checksums; a mean where
        lengths vary), ``mass`` (mean probability of the top K), and in nats ``mean_kl`` and ``max_kl`` of the recovered
        target (top K, and the tail spread evenly) from the teacher's own distribution, and ``codec_kl``, the part of
        the mean that is due to rounding.
    """
    num_classes, rows = log_prob.shape[1], []
    for topk in [k for k in TRY_TOPK if k < num_classes] + [num_classes] * (num_classes <= TRY_TOPK[-1]):
        record = sparsify(torch.from_numpy(log_prob), topk)
        cut = _divergence(log_prob, record)
        other = None if other_view is None else sparsify(torch.from_numpy(other_view), topk)
        for name in codec_names():
            codec = make_codec(name, topk, num_classes)
            kl = _divergence(log_prob, codec.decode(codec.encode(record)))
            size = round(codec.bytes_per_view(record, other, views), 1)
            rows.append(dict(topk=topk, codec=name, bytes=size + _MIXING_BYTES * mixing,
                             mass=float(np.exp(record.log_prob).sum(1).mean()), mean_kl=float(kl.mean()),
                             max_kl=float(kl.max()), codec_kl=float(kl.mean() - cut.mean())))
    return rows


def _divergence(log_prob: np.ndarray, record: Record) -> np.ndarray:
    """``(n,)`` float64: KL from the dense distribution to the recovered target."""
    p = np.exp(log_prob.astype(np.float64))
    inside = np.take_along_axis(p, record.index, 1)
    others = log_prob.shape[1] - record.index.shape[1]
    outside = (1 - inside.sum(1)).clip(0) if others else np.zeros(len(p))
    even = np.log(np.maximum(record.tail_mass.astype(np.float64) / max(others, 1), _LEAST))
    return (p * log_prob).sum(1) - (inside * record.log_prob).sum(1) - outside * even


def recommend(rows: list[dict[str, Any]], max_kl: float) -> dict[str, Any]:
    """The smallest record of the default codec whose mean divergence is at most ``max_kl``, or else the closest."""
    compact = [row for row in rows if row['codec'] == DEFAULT_CODEC]
    good = [row for row in compact if row['mean_kl'] <= max_kl]
    return min(good, key=lambda row: row['bytes']) if good else min(compact, key=lambda row: row['mean_kl'])


def plan_store(cfg: Config, model: torch.nn.Module, num_images: int = 1000, views: int | None = None,
               max_kl: float = 0.05) -> dict[str, Any]:
    """Probe the teacher of a saving config.

    Args:
        cfg: A config with ``SaveLogitsLoop``.
        model: Its model, with weights.
        num_images: Images to probe.
        views: Views to plan for; the config's by default.
        max_kl: How many nats the recovered target may differ from the teacher on average.

    Returns:
        ``images``, ``classes``, ``samples`` (of the dataset), ``views``, ``per_second``, ``hours`` (for all views, on
        what the probe ran on), ``rows`` (see :func:`weigh_codecs`; each with ``total_bytes``, shards and checksums
        included) and ``recommended``, one of the rows.

    Raises:
        UserError: A number is not positive, an image cannot be read, or the teacher does not return logits.
    """
    loop = cfg.test_cfg
    first, end = loop.get('views', (0, 1))
    views = end - first if views is None else views
    if min(views, num_images) < 1 or not max_kl > 0:
        raise UserError('--views, --images and --max-kl must be positive.')
    loader = cfg.test_dataloader
    teacher = Teacher(model, loader['dataset'], None, loop.get('mixing'), loop.get('amp', False))
    teacher.probe(first)
    log_prob, per_second = _probe(teacher, loader, first, num_images)
    samples = len(teacher.dataset)
    other = _probe(teacher, loader, first + 1, num_images)[0] if views > 1 else None
    rows = weigh_codecs(log_prob, teacher.mixing is not None, other, views)
    per_shard = loop.get('samples_per_shard') or default_samples_per_shard(samples)
    counts = [min(per_shard, samples - first) for first in range(0, samples, per_shard)]
    for row in rows:
        codec = make_codec(row['codec'], row['topk'], log_prob.shape[1])
        width = codec.record_bytes + _MIXING_BYTES * (teacher.mixing is not None)
        row['total_bytes'] = views * sum(
            shard_bytes(count, width, -(-count // CANARY_EVERY), row['bytes'] if codec.variable else None)
            for count in counts)
    return dict(images=len(log_prob), classes=log_prob.shape[1], samples=samples, views=views, per_second=per_second,
                hours=samples * views / per_second / 3600, rows=rows, recommended=recommend(rows, max_kl))


def recommend_views(views: int, total_bytes: int, hours: float, max_bytes: int, max_hours: float | None = None
                    ) -> dict[str, Any]:
    """As many views as there is room and time for, at most those that are wanted.

    How few suffice is not known before a training; ``docs/en/store_tools.md`` has what was published.

    Args:
        views: The views that are wanted: one per epoch, at most.
        total_bytes: Bytes that they take together.
        hours: Hours that the teacher needs for them.
        max_bytes: Free room in bytes.
        max_hours: Time for saving; None for any.

    Returns:
        ``views`` (0 if there is no room or time for one), ``bytes``, ``hours`` and ``limit``: ``'wanted'``, ``'room'``
        or ``'time'``, whichever is the closest.

    Raises:
        UserError: A limit is not positive.
    """
    check_limits(max_bytes, max_hours)
    limits = {'wanted': views, 'room': int(max_bytes * views // max(total_bytes, 1))}
    if max_hours is not None:
        limits['time'] = int(max_hours * views / max(hours, 1e-12))
    limit, count = min(limits.items(), key=lambda item: item[1])
    return dict(views=count, bytes=total_bytes * count // views, hours=hours * count / views, limit=limit)


def check_limits(max_bytes: int, max_hours: float | None) -> None:
    """Raises :class:`UserError` for a limit that is not positive."""
    if max_bytes <= 0 or (max_hours is not None and not max_hours > 0):
        raise UserError('--disk and --hours must be positive.')


def free_bytes(path: str | Path) -> int:
    """Free room on the disk on which ``path`` is, or will be; raises :class:`UserError` for a URL."""
    if is_url(path):
        raise UserError(f'How much room there is at {path} is not known: say it with --disk, in GiB.')
    place = Path(path).absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
