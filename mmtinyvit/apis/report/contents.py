"""What a report says, as plain values; the page shows them."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmtinyvit.store import LogitStore

from ..class_correlation import ENTRIES, ClassCorrelation, correlate_store, correlated_pairs
from ..store_samples import StoreSamples, spread
from ..store_stats import mean_target, tally_records, teacher_labels
from ..store_tally import StoreTally

__all__ = ['Found', 'has_labels', 'look', 'summarise']

TOP = 3  # classes that the teacher names for a sample
CONFUSED, PAIRS = 10, 10  # pairs of classes to list
FIRST = 30  # classes to list that are first most often


class Found(NamedTuple):
    """What was counted.

    Attributes:
        samples, views: Of what.
        labels: ``(n,)`` int64 in the teacher's classes, or None.
        tally: The counts.
        correlation: Of the teacher's classes.
        pairs: The classes that are correlated most.
    """
    samples: StoreSamples
    views: list[int]
    labels: np.ndarray | None
    tally: StoreTally
    correlation: ClassCorrelation
    pairs: list[tuple[int, int, float]]


def has_labels(dataset: Any) -> bool:
    """Whether a dataset has labels."""
    return dataset is not None and len(dataset) > 0 and dataset.get_data_info(0).get('gt_label') is not None


def look(store: LogitStore, samples: StoreSamples, views: list[int], dataset: Any = None,
         label_index: Sequence[int] | Mapping[str, str] | None = None, classes: Sequence[str] | None = None,
         watch: Callable[[Sequence[int]], Iterable[int]] = iter) -> Found:
    """Count; arguments are as for :func:`~mmtinyvit.apis.report.write_report`."""
    labels = (teacher_labels(dataset, samples.indices, store, label_index, classes) if has_labels(dataset) else None)
    tally = tally_records(store, views, samples.positions, labels, watch, keep_views=True)
    most = max(ENTRIES // (store.topk * len(views)), 1)
    correlation = correlate_store(store, views, spread(samples.positions, most), watch=watch)
    return Found(samples, views, labels, tally, correlation, correlated_pairs(correlation, PAIRS, watch))


def summarise(store: LogitStore, found: Found, worst: int) -> dict[str, Any]:
    """The numbers of a report.

    Args:
        store: The store.
        found: From :func:`look`.
        worst: How many samples to list.

    Returns:
        ``samples``, ``of``, ``views``, ``records``, ``entropy`` (mean, nats), ``tail_mass`` (mean), ``mass``,
        ``histograms``, ``same_top1``, ``agreement`` (``shares`` of the views and how many ``samples`` have them),
        ``first_classes`` (``class``, ``views``), ``correlation`` (``class``, ``other``, ``correlation``,
        ``records`` with both), ``correlated_records`` (over how many), ``hardest`` and ``divided``. With labels also
        ``top1``, ``top5``, ``top1_by_view``, ``calibration_error``, ``reliability``, ``confusions``, ``classes`` (see
        :meth:`StoreTally.classes`, those least often right first) and ``suspicious``.

        Samples have ``row`` (among those that were looked at), ``key``, ``label`` (or None), ``label_prob``, ``said``
        (a list of ``class`` and ``prob``, mean over the views) and ``agreement``. The hardest have the largest mean
        entropy, the divided ones views whose first classes differ most, the suspicious ones a label that is not the
        first class of all views, and the largest mean of (probability of the first class - probability of the label).
    """
    tally, labels, views = found.tally, found.labels, found.views
    total, agreement = tally.records, tally.agreement()
    firsts = np.argsort(-tally.first_counts, kind='stable')[:FIRST]
    shares, counts = np.unique(agreement, return_counts=True)
    targets: dict[int, dict[str, Any]] = {}

    def sample(row: int) -> dict[str, Any]:
        if row not in targets:
            position = int(found.samples.positions[row])
            mean = mean_target(store, views, position)
            label = None if labels is None else int(labels[row])
            targets[row] = dict(
                row=row, key=store.key(position), label=label, label_prob=None if label is None else float(mean[label]),
                agreement=float(agreement[row]), said=[{'class': int(best), 'prob': float(mean[best])}
                                                       for best in np.argsort(-mean, kind='stable')[:TOP]])
        return targets[row]

    def listed(*keys: np.ndarray, among: np.ndarray | None = None) -> list[dict[str, Any]]:
        order = np.lexsort(keys)
        return [sample(int(row)) for row in (order if among is None else order[among[order]])[:worst]]

    summary = dict(
        samples=tally.num, of=found.samples.total, views=views, records=total,
        entropy=float(tally.entropy.sum() / total), tail_mass=max(float(1 - tally.mass[-1] / total), 0.),
        mass=tally.mean_mass(),
        histograms={name: histogram for name, histogram in tally.histograms().items()
                    if labels is not None or name != 'label_prob'},
        same_top1=float(tally.same.mean()),
        agreement=dict(shares=shares.tolist(), samples=counts.tolist()),
        first_classes=[{'class': int(each), 'views': int(tally.first_counts[each])} for each in firsts
                       if tally.first_counts[each]],
        correlation=[{'class': one, 'other': other, 'correlation': value,
                      'records': found.correlation.together(one, other)} for one, other, value in found.pairs],
        correlated_records=found.correlation.num_records, hardest=listed(-tally.entropy),
        divided=listed(-tally.entropy, agreement, among=agreement < 1) if len(views) > 1 else [])
    if labels is None:
        return summary
    wrong = tally.confusions.most_common(CONFUSED)
    return summary | dict(
        top1=sum(tally.hits.values()) / total, top5=tally.top5 / total,
        top1_by_view={view: count / tally.num for view, count in tally.hits.items()},
        calibration_error=tally.calibration_error(), reliability=tally.reliability(),
        confusions=[dict(label=label, predicted=predicted, views=count) for (label, predicted), count in wrong],
        classes=sorted(tally.classes(), key=lambda row: (row['accuracy'], -row['views'], row['label'])),
        suspicious=listed(-tally.gap, among=tally.gap > 0))
