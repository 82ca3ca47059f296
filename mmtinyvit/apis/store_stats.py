"""How good a stored teacher is, where it errs, and which labels it doubts."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmtinyvit.config import nearest
from mmtinyvit.datasets.identity import classes_hash, in_blocks, iter_keys
from mmtinyvit.datasets.views import find_seeded_augment, sample_key
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import LAYOUTS, layout_with, require_classes, short_name, synsets
from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.summary import read_class_names
from mmtinyvit.store.layout import spell_numbers

from .store_tally import StoreTally, spread_tail

__all__ = ['mean_target', 'measure_store', 'name_classes', 'pick_views', 'sample_positions', 'tally_records',
           'teacher_labels']

_BATCH = 4096


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
                  worst: int = 20, label_index: Sequence[int] | Mapping[str, str] | None = None,
                  watch: Callable[[Sequence[int]], Iterable[int]] = iter,
                  classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare the stored teacher with the labels.

    Args:
        store: The store.
        dataset: A labelled dataset whose samples are in the store, as
            :func:`~mmtinyvit.engine.store_check.check_dataset` makes sure.
        views: Complete views.
        num_samples: Look at so many samples only, spread evenly over the dataset.
        worst: How many samples and pairs of classes to list.
        label_index: The teacher's class of each label; or, by the dataset's names, the teacher's class, by name or
            synset, of those that are not found by their own.
        watch: Wraps the views, for a progress bar.
        classes: Names of the teacher's classes, where the store has none.

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
    labels = teacher_labels(dataset, indices, store, label_index, classes)
    positions = sample_positions(dataset, indices, store)

    num, total = len(indices), len(indices) * len(views)
    tally = tally_records(store, views, positions, labels, watch)

    def listed(score: np.ndarray) -> list[dict]:
        rows = np.argsort(-score, kind='stable')[:worst]
        return [_sample(store, views, int(indices[row]), int(positions[row]), int(labels[row])) for row in rows]

    histograms = tally.histograms()
    return dict(
        samples=num, views=list(tally.hits), top1=sum(tally.hits.values()) / total, top5=tally.top5 / total,
        top1_by_view={view: count / num for view, count in tally.hits.items()},
        entropy=float(tally.entropy.sum() / total), same_top1=float(tally.same.mean()), mass=tally.mean_mass(),
        confusions=[dict(label=label, predicted=predicted, views=count)
                    for (label, predicted), count in tally.confusions.most_common(worst)],
        histograms={name: histograms[name] for name in ('entropy', 'label_prob')},
        disagreements=listed(tally.gap), hardest=listed(tally.entropy))


def tally_records(store: LogitStore, views: Sequence[int], positions: np.ndarray, labels: np.ndarray | None = None,
                  watch: Callable[[Sequence[int]], Iterable[int]] = iter, keep_views: bool = False) -> StoreTally:
    """Count the records of some samples.

    Args:
        store, views, watch: As for :func:`measure_store`.
        positions: ``(n,)`` int64, where the samples stand in the store.
        labels: ``(n,)`` int64, in the teacher's classes; None without.
        keep_views: Keep the first class of each view, see :class:`~mmtinyvit.apis.store_tally.StoreTally`.
    """
    tally = StoreTally(len(positions), store.topk, store.num_classes, len(views) if keep_views else 0)
    for view in watch(views):
        for start in range(0, len(positions), _BATCH):
            rows = slice(start, start + _BATCH)
            record = store.read_positions(view, positions[rows])
            tally.add(view, rows, record, None if labels is None else labels[rows])
    return tally


def sample_positions(dataset: Any, indices: np.ndarray, store: LogitStore) -> np.ndarray:
    """``(n,)`` int64: where the samples ``indices`` of a dataset, ascending, stand in a store."""
    root = find_seeded_augment(dataset).key_root
    keys = (iter_keys(dataset, root) if len(indices) == len(dataset) else  # of a few, without a look at all others
            (sample_key(dataset.get_data_info(index), root) for index in indices.tolist()))
    return np.concatenate([store.positions(block) for block in in_blocks(keys)])


def teacher_labels(dataset: Any, indices: np.ndarray, store: LogitStore,
                   label_index: Sequence[int] | Mapping[str, str] | None = None,
                   classes: Sequence[str] | None = None) -> np.ndarray:
    """``(n,)`` int64: the labels of the samples ``indices``, as classes of a store's teacher.

    Args:
        dataset, indices, store: Whose.
        label_index: The teacher's class of each label, as numbers, or as names for folders that are called otherwise.
        classes: What the teacher's classes are called, if the store does not know.

    Raises:
        UserError: A sample has no label, or one that is no class of the teacher.
    """
    names = getattr(dataset, 'metainfo', {}).get('classes')
    known, given = store.manifest.class_names or classes, label_index if isinstance(label_index, Mapping) else {}
    if unknown := sorted(given.keys() - set(names or ())):
        raise UserError(f'--label-index names {unknown[0]}, which is no class of the dataset'
                        f'{nearest(unknown[0], names or ())}: correct it.')
    if (given or label_index is None) and names is not None and known:
        label_index = require_classes(
            known, [given.get(name, name) for name in names], f'The teacher of the store {store.root} has {{ours}}, '
            'and the dataset has {theirs}', 'say which it is, by name or synset, as in --label-index fish=tench.',
            several=bool(given)).tolist()
    if (given or label_index is None) and names is not None and len(names) != store.num_classes and not known:
        raise UserError(f'The dataset has {len(names)} classes and the teacher of the store {store.root} has '
                        f'{store.num_classes}, whose names the store does not know: name them with --classes, such as '
                        '--classes in1k, or give the number of each label with --label-index.')
    labels = np.empty(len(indices), np.int64)
    for row, index in enumerate(indices.tolist()):
        label = dataset.get_data_info(index).get('gt_label')
        if label is None:
            raise UserError(f'Sample {index} of the dataset has no label, and the teacher is compared with labels: '
                            'give the config of a labelled dataset.')
        labels[row] = label
    if label_index is not None:
        wanted = len(names or ()) or labels.max() + 1
        if labels.min() < 0 or labels.max() >= len(label_index) or len(names or label_index) != len(label_index):
            raise UserError(f'The dataset has {wanted} labels, and --label-index names {len(label_index)} '
                            "classes: name the teacher's class of each label, in order.")
        labels = np.asarray(label_index, np.int64)[labels]
    if labels.min() < 0 or labels.max() >= store.num_classes:
        raise UserError(f'The labels are from {labels.min()} to {labels.max()}, and the teacher of the store '
                        f"{store.root} has {store.num_classes} classes: give the dataset with the teacher's labels.")
    return labels


def mean_target(store: LogitStore, views: Sequence[int], position: int) -> np.ndarray:
    """``(C,)`` float64: what the teacher says about a sample, the mean over the views, the tails taken as even."""
    mean = np.zeros(store.num_classes)
    for view in views:
        record = store.read_positions(view, [position])
        target = np.full(store.num_classes, spread_tail(record.tail_mass, store.num_classes, store.topk)[0])
        target[record.index[0]] = np.exp(record.log_prob[0].astype(np.float64))
        mean += target / len(views)
    return mean


def _sample(store: LogitStore, views: Sequence[int], index: int, position: int, label: int) -> dict[str, Any]:
    """One sample's label and first class, with their probabilities, means over the views."""
    mean = mean_target(store, views, position)
    predicted = int(mean.argmax())
    return dict(index=index, key=store.key(position), label=label, predicted=predicted,
                label_prob=float(mean[label]), predicted_prob=float(mean[predicted]))
