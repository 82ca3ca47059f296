"""How good a stored teacher is, where it errs, and which labels it doubts."""
import argparse
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmtinyvit.apis.config import add_common_flags, check_data, load_config
from mmtinyvit.datasets.identity import find_seeded_augment, in_blocks, iter_keys
from mmtinyvit.engine.store_check import check_dataset
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

from .teacher_tally import TeacherTally

__all__ = ['draw_stats', 'load_labelled', 'measure_store', 'pick_views', 'read_config']

_BATCH = 4096


def load_labelled(store: LogitStore, config: str, options: Sequence[str] = ()) -> Any:
    """The dataset of a config, of the loader that saves (or else the training one), if it belongs to the store.

    Args:
        store: The store.
        config: Config of a teacher or of a student.
        options: ``KEY=VALUE`` that override it.

    Raises:
        UserError: It does not belong to the store, is not on this machine, or the config has no such loader.
    """
    cfg = read_config(config, options)
    saves = (cfg.get('test_cfg') or {}).get('type') == 'mmtinyvit.SaveLogitsLoop'
    name = 'test_dataloader' if saves else 'train_dataloader'
    if not cfg.get(name):
        raise UserError('The config has no train_dataloader and does not save logits: give the config of the teacher '
                        'or of a student.')
    check_data(cfg, name)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg[name].dataset)
    check_dataset(store, dataset)
    return dataset


def read_config(config: str, options: Sequence[str] = ()) -> Config:
    """A config as the other tools read it."""
    parser = argparse.ArgumentParser()
    add_common_flags(parser)
    return load_config(parser.parse_args([config, *(['--cfg-options', *options] if options else [])]))


def pick_views(store: LogitStore, wanted: range | None = None) -> list[int]:
    """The complete views, or those among ``wanted``.

    Raises:
        UserError: There is none.
    """
    complete = [view for view, there in store.coverage().items() if there.present == there.expected
                and (wanted is None or view in wanted)]
    if not complete:
        among = '' if wanted is None else ' among those asked for'
        raise UserError(f'The store {store.root} has no complete view{among}: save one, or ask for others.')
    return complete


def measure_store(store: LogitStore, dataset: Any, views: Sequence[int], num_samples: int | None = None,
                  worst: int = 20, label_index: Sequence[int] | None = None,
                  watch: Callable[[Sequence[int]], Iterable[int]] = iter) -> dict[str, Any]:
    """Compares what the teacher said with the labels.

    Args:
        store: The store.
        dataset: A labelled dataset whose samples are in the store; see :func:`load_labelled`.
        views: Complete views.
        num_samples: Look at so many samples only, spread evenly over the dataset.
        worst: How many samples and pairs of classes to list.
        label_index: The teacher's class of each label; needed if the dataset has other classes than the teacher.
        watch: Wraps the views, for a progress bar.

    Returns:
        ``samples``, ``views``, ``top1`` and ``top5`` (shares of all views of all samples), ``top1_by_view``,
        ``entropy`` (mean, nats, the tail taken as even), ``same_top1`` (share of samples with the same first class in
        all views), ``mass`` (mean probability of the K most probable classes, by K), ``confusions`` (``label``,
        ``predicted``, ``views``), ``disagreements`` and ``hardest`` (``index``, ``key``, ``label``, ``predicted``,
        ``label_prob``, ``predicted_prob``, means over the views), and ``histograms`` for :func:`draw_stats`.

        Disagreements have the largest mean of (probability of the first class - probability of the label): the teacher
        is sure of something else, so the label may be wrong. The hardest have the largest mean entropy.

    Raises:
        UserError: A sample has no label, or one that the teacher does not know.
    """
    indices = np.arange(len(dataset))
    if num_samples is not None and num_samples < len(dataset):
        indices = np.unique(np.linspace(0, len(dataset) - 1, num_samples).round().astype(np.int64))
    labels = _labels(dataset, indices, store, label_index)
    keys = iter_keys(dataset, find_seeded_augment(dataset).key_root)
    chosen = np.isin(np.arange(len(dataset)), indices)
    positions = np.concatenate([store.positions(block) for block in in_blocks(compress(keys, chosen))])

    tally = TeacherTally(store, labels)
    for view in watch(views):
        for start in range(0, len(indices), _BATCH):
            rows = slice(start, start + _BATCH)
            tally.add(view, rows, store.read_positions(view, positions[rows]))

    def listed(score: np.ndarray) -> list[dict]:
        rows = np.argsort(-score, kind='stable')[:worst]
        return [_sample(store, views, int(indices[row]), int(positions[row]), int(labels[row])) for row in rows]

    return tally.summary(worst) | dict(disagreements=listed(tally.gap), hardest=listed(tally.entropy))


def _labels(dataset: Any, indices: np.ndarray, store: LogitStore, label_index: Sequence[int] | None) -> np.ndarray:
    """``(n,)`` int64, in the teacher's classes."""
    names = getattr(dataset, 'metainfo', {}).get('classes')
    if label_index is None and names is not None and len(names) != store.num_classes:
        raise UserError(f'The dataset has {len(names)} classes and the teacher of the store {store.root} has '
                        f'{store.num_classes}: say which of its classes each label is, with --label-index.')
    labels = np.empty(len(indices), np.int64)
    for row, index in enumerate(indices.tolist()):
        label = dataset.get_data_info(index).get('gt_label')
        if label is None:
            raise UserError(f'Sample {index} of the dataset has no label: give the config of a labelled dataset.')
        labels[row] = label
    if label_index is not None:
        if labels.min() < 0 or labels.max() >= len(label_index):
            raise UserError(f'The dataset has labels up to {labels.max()}, and --label-index names {len(label_index)} '
                            "classes: name the teacher's class of each label, in order.")
        labels = np.asarray(label_index, np.int64)[labels]
    if labels.min() < 0 or labels.max() >= store.num_classes:
        raise UserError(f'The labels are from {labels.min()} to {labels.max()}, and the teacher of the store '
                        f"{store.root} has {store.num_classes} classes: give the dataset with the teacher's labels.")
    return labels


def _sample(store: LogitStore, views: Sequence[int], index: int, position: int, label: int) -> dict[str, Any]:
    """The mean over the views of what the teacher said about one sample."""
    mean = np.zeros(store.num_classes)
    for view in views:
        record = store.read_positions(view, [position])
        rest = float(record.tail_mass[0]) / max(store.num_classes - store.topk, 1)
        target = np.full(store.num_classes, rest)
        target[record.index[0]] = np.exp(record.log_prob[0].astype(np.float64))
        mean += target / len(views)
    predicted = int(mean.argmax())
    return dict(index=index, key=store.key(position), label=label, predicted=predicted,
                label_prob=float(mean[label]), predicted_prob=float(mean[predicted]))


def draw_stats(stats: dict[str, Any], out: str | Path) -> Path:
    """Draws mass against K, accuracy by view, and the histograms of entropy and of the label's probability.

    Raises:
        UserError: ``out`` cannot be written.
    """
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout='constrained')
    axes[0, 0].plot(list(stats['mass']), list(stats['mass'].values()), 'o-')
    axes[0, 0].set(xlabel='K', ylabel='mean mass of the K most probable classes', xscale='log', ylim=(0, 1.02))
    axes[0, 1].plot(list(stats['top1_by_view']), [100 * top1 for top1 in stats['top1_by_view'].values()], 'o-')
    axes[0, 1].set(xlabel='view', ylabel="teacher's top-1 accuracy (%)")
    for axis, name, title in ((axes[1, 0], 'entropy', 'entropy (nats)'),
                              (axes[1, 1], 'label_prob', 'probability of the label')):
        histogram = stats['histograms'][name]
        axis.stairs(histogram['counts'], histogram['edges'], fill=True)
        axis.set(xlabel=title, ylabel='views of samples')
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except OSError as error:
        raise UserError(f'The picture cannot be written to {out} ({error.strerror}): choose another --out.') from error
    finally:
        plt.close(figure)
    return out
