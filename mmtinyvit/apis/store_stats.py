"""How good a stored teacher is, where it errs, and which labels it doubts."""
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from mmtinyvit.datasets.identity import classes_hash, in_blocks, iter_keys
from mmtinyvit.datasets.views import find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import LAYOUTS, layout_with, require_classes, short_name, synsets
from mmtinyvit.store import LogitStore, Record
from mmtinyvit.store.admin.summary import read_class_names
from mmtinyvit.store.layout import spell_numbers

__all__ = ['measure_store', 'name_classes', 'pick_views', 'sample_positions', 'teacher_labels']

MASS_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BATCH, _BINS = 4096, 40


def pick_views(store: LogitStore, wanted: range | None = None, complete: bool = True) -> list[int]:
    """The views of a store that are complete, or of which there is anything; of these, those among ``wanted``.

    Raises:
        UserError: There is none.
    """
    there = store.complete_views() if complete else store.views
    views = [view for view in there if wanted is None or view in wanted]
    if not views:
        kind = 'complete view' if complete else 'view'
        among = '' if wanted is None else f' among {wanted.start}:{wanted.stop} (it has {spell_numbers(there)})'
        raise UserError(f'The store {store.root} has no {kind}{among}: save one, or ask for others.')
    return views


def name_classes(store: LogitStore, dataset: Any, given: str | None = None) -> list[str] | None:
    """What to call the teacher's classes where people read of them; None if that is not known.

    Args:
        store: The store.
        dataset: Its images. Their classes are the teacher's if there are as many, and they are those that the store was
            saved with; if they are some of the synsets of a label layout as large as the teacher's, it is that layout.
        given: A file with one name per line, or a label layout such as ``'in1k'``, which comes first; then the names
            that the store has.

    Raises:
        UserError: ``given`` cannot be read, names another number of classes, or has names of the store in other places.
    """
    known = store.manifest.class_names
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    saved = store.manifest.fingerprints.get('dataset', {}).get('classes_hash')
    if given is not None and given not in LAYOUTS:
        classes = read_class_names(given, store.num_classes, known)
    elif given is not None:
        classes = synsets(given)
        if len(classes) != store.num_classes:
            raise UserError(f'{given} has {len(classes):,} classes, and the teacher of the store {store.root} has '
                            f'{store.num_classes:,}: name the layout of its head, or a file.')
    elif known:
        classes = known
    elif not classes or len(classes) != store.num_classes or saved not in (None, classes_hash(classes)):
        layout = layout_with(classes, store.num_classes) if classes else None
        classes = synsets(layout) if layout else None
    return None if classes is None else [short_name(str(name)) for name in classes]


def measure_store(store: LogitStore, dataset: Any, views: Sequence[int], num_samples: int | None = None,
                  worst: int = 20, label_index: Sequence[int] | None = None,
                  watch: Callable[[Sequence[int]], Iterable[int]] = iter) -> dict[str, Any]:
    """Compare the stored teacher with the labels.

    Args:
        store: The store.
        dataset: A labelled dataset whose samples are in the store, as
            :func:`~mmtinyvit.engine.store_check.check_dataset` makes sure.
        views: Complete views.
        num_samples: Look at so many samples only, spread evenly over the dataset.
        worst: How many samples and pairs of classes to list.
        label_index: The teacher's class of each label; needed if the dataset has other classes than the teacher, and
            they are not found by name.
        watch: Wraps the views, for a progress bar.

    Returns:
        ``samples``, ``views``, ``top1`` and ``top5`` (shares of all views of all samples), ``top1_by_view``,
        ``entropy`` (mean, nats, the tail taken as even), ``same_top1`` (share of samples with the same first class in
        all views), ``mass`` (mean probability of the K most probable classes, by K), ``confusions`` (``label``,
        ``predicted``, ``views``), ``disagreements`` and ``hardest`` (``index``, ``key``, ``label``, ``predicted``,
        ``label_prob``, ``predicted_prob``, means over the views), and ``histograms`` for :func:`draw_stats`.

        Disagreements have the largest mean of (probability of the first class - probability of the label): there the
        label may be wrong. The hardest have the largest mean entropy.

    Raises:
        UserError: A sample has no label, or one that is no class of the teacher, by name or number.
    """
    indices = np.arange(len(dataset))
    if num_samples is not None and num_samples < len(dataset):
        indices = np.unique(np.linspace(0, len(dataset) - 1, num_samples).round().astype(np.int64))
    labels = teacher_labels(dataset, indices, store, label_index)
    positions = sample_positions(dataset, indices, store)

    num, total = len(indices), len(indices) * len(views)
    gap, entropy, same, first = np.zeros(num), np.zeros(num), np.ones(num, bool), np.full(num, -1)
    mass, top5, hits, confusions = np.zeros(store.topk), 0, {}, Counter()
    edges = dict(entropy=np.linspace(0, np.log(store.num_classes), _BINS + 1), label_prob=np.linspace(0, 1, _BINS + 1))
    counts = {name: np.zeros(_BINS, np.int64) for name in edges}
    for view in watch(views):
        for start in range(0, num, _BATCH):
            rows = slice(start, start + _BATCH)
            label, record = labels[rows], store.read_positions(view, positions[rows])
            ranked, prob, found = _compare(record, label, store.num_classes)
            right = ranked[:, 0] == label
            hits[view] = hits.get(view, 0) + int(right.sum())
            top5 += int((ranked[:, :5] == label[:, None]).any(1).sum())
            mass += prob.cumsum(1).sum(0)
            gap[rows] += prob[:, 0] - found['label_prob']
            entropy[rows] += found['entropy']
            same[rows] &= (first[rows] == ranked[:, 0]) | (first[rows] < 0)
            first[rows] = ranked[:, 0]
            confusions.update(zip(label[~right].tolist(), ranked[~right, 0].tolist(), strict=True))
            for name, values in found.items():
                counts[name] += np.histogram(values.clip(0, edges[name][-1]), edges[name])[0]

    def listed(score: np.ndarray) -> list[dict]:
        rows = np.argsort(-score, kind='stable')[:worst]
        return [_sample(store, views, int(indices[row]), int(positions[row]), int(labels[row])) for row in rows]

    return dict(
        samples=num, views=list(hits), top1=sum(hits.values()) / total, top5=top5 / total,
        top1_by_view={view: count / num for view, count in hits.items()}, entropy=float(entropy.sum() / total),
        same_top1=float(same.mean()),
        mass={k: float(mass[k - 1] / total) for k in sorted({*MASS_AT, store.topk}) if k <= store.topk},
        confusions=[dict(label=label, predicted=predicted, views=count)
                    for (label, predicted), count in confusions.most_common(worst)],
        histograms={name: dict(edges=edges[name].tolist(), counts=counts[name].tolist()) for name in edges},
        disagreements=listed(gap), hardest=listed(entropy))


def _compare(record: Record, label: np.ndarray, num_classes: int
             ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Classes and probabilities ``(n, K)``, most probable first; and by name the entropy and the label's, ``(n,)``."""
    prob, tail = np.exp(record.log_prob.astype(np.float64)), record.tail_mass.astype(np.float64)
    even = tail / max(num_classes - prob.shape[1], 1)
    order = np.argsort(-prob, axis=1, kind='stable')
    match = record.index == label[:, None]
    entropy = -(prob * record.log_prob).sum(1) - tail * np.log(np.where(even > 0, even, 1))
    label_prob = np.where(match.any(1), (prob * match).sum(1), even)
    return (np.take_along_axis(record.index, order, 1), np.take_along_axis(prob, order, 1),
            dict(entropy=entropy, label_prob=label_prob))


def sample_positions(dataset: Any, indices: np.ndarray, store: LogitStore) -> np.ndarray:
    """``(n,)`` int64: where the samples ``indices`` of a dataset, ascending, stand in a store."""
    keys = iter_keys(dataset, find_seeded_augment(dataset).key_root)
    chosen = np.isin(np.arange(len(dataset)), indices)
    return np.concatenate([store.positions(block) for block in in_blocks(compress(keys, chosen))])


def teacher_labels(dataset: Any, indices: np.ndarray, store: LogitStore,
                   label_index: Sequence[int] | None = None) -> np.ndarray:
    """``(n,)`` int64: the labels of the samples ``indices``, as classes of a store's teacher.

    Args:
        dataset, indices, store: Whose.
        label_index: The teacher's class of each label; needed if the dataset has other classes than the teacher.

    Raises:
        UserError: A sample has no label, or one that is no class of the teacher.
    """
    names = getattr(dataset, 'metainfo', {}).get('classes')
    if label_index is None and names is not None and store.manifest.class_names:
        label_index = require_classes(
            store.manifest.class_names, names, f'The teacher of the store {store.root} has {{ours}}, and the dataset '
            'has {theirs}', 'say which of its classes each label is, with --label-index.').tolist()
    if label_index is None and names is not None and len(names) != store.num_classes:
        raise UserError(f'The dataset has {len(names)} classes and the teacher of the store {store.root} has '
                        f'{store.num_classes}: say which of its classes each label is, with --label-index.')
    labels = np.empty(len(indices), np.int64)
    for row, index in enumerate(indices.tolist()):
        label = dataset.get_data_info(index).get('gt_label')
        if label is None:
            raise UserError(f'Sample {index} of the dataset has no label, and the teacher is compared with labels: '
                            'give the config of a labelled dataset.')
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
    """One sample's label and first class, with their probabilities, means over the views."""
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
