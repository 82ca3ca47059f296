"""Counts over the records of a store, with labels or without: what statistics and reports are made of."""
from collections import Counter
from typing import Any

import numpy as np

from mmtinyvit.store import Record

__all__ = ['StoreTally', 'label_probability', 'spread_tail']

BINS, CALIBRATION_BINS = 40, 15
MASS_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def spread_tail(tail_mass: np.ndarray, num_classes: int, topk: int) -> np.ndarray:
    """The probability of each class of the tail, which is taken as even, as the losses take it; float64."""
    return tail_mass.astype(np.float64) / max(num_classes - topk, 1)


def label_probability(record: Record, label: np.ndarray, num_classes: int) -> np.ndarray:
    """``(n,)`` float64: what a record gives the classes ``label`` ``(n,)``."""
    match = record.index == label[:, None]
    prob = (np.exp(record.log_prob.astype(np.float64)) * match).sum(1)
    return np.where(match.any(1), prob, spread_tail(record.tail_mass, num_classes, record.index.shape[1]))


class StoreTally:
    """Sums over the records of ``num`` samples in some views, added block by block.

    Memory grows with the samples and the classes, and not with the views, but for ``firsts``.

    Args:
        num: Samples.
        topk, num_classes: K and C of the store.
        views: Keep the first class of each view, which :meth:`agreement` is made of: 4 bytes for each.

    Attributes:
        entropy, gap: ``(num,)`` float64, sums over the views: the entropy in nats, the tail taken as even; and the
            probability of the first class less that of the label.
        same: ``(num,)`` bool, whether the first class is the same in all views so far.
        hits: By view, how often the first class is the label.
        confusions: How often a label was taken for another class, by ``(label, predicted)``.
        counts: By name, a histogram over :attr:`edges`.
    """

    def __init__(self, num: int, topk: int, num_classes: int, views: int = 0) -> None:
        self.num, self.num_classes, self.records = num, num_classes, 0
        self.entropy, self.gap = np.zeros(num), np.zeros(num)
        self.same, self._first = np.ones(num, bool), np.full(num, -1)
        self.firsts = np.full((num, views), -1, np.int32)
        self.mass, self.top5, self.hits, self.confusions = np.zeros(topk), 0, {}, Counter()
        self.first_counts = np.zeros(num_classes, np.int64)
        self.class_views, self.class_hits = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
        self.class_prob = np.zeros(num_classes)
        unit = np.linspace(0, 1, BINS + 1)
        self.edges = dict(entropy=np.linspace(0, np.log(num_classes), BINS + 1), tail_mass=unit, first_prob=unit,
                          label_prob=unit)
        self.counts = {name: np.zeros(BINS, np.int64) for name in self.edges}
        self.calibration = np.zeros((3, CALIBRATION_BINS))  # views, sum of the first probability, sum of right ones

    def add(self, view: int, rows: slice, record: Record, label: np.ndarray | None) -> None:
        """Count a block of records: of the samples ``rows`` in one view, with their labels ``(n,)`` if they have any.
        """
        prob = np.exp(record.log_prob.astype(np.float64))
        order = np.argsort(-prob, axis=1, kind='stable')
        ranked, sorted_prob = np.take_along_axis(record.index, order, 1), np.take_along_axis(prob, order, 1)
        even = spread_tail(record.tail_mass, self.num_classes, prob.shape[1])
        found = dict(
            entropy=-(prob * record.log_prob).sum(1) - record.tail_mass * np.log(np.where(even > 0, even, 1)),
            tail_mass=record.tail_mass, first_prob=sorted_prob[:, 0])
        first, known = ranked[:, 0], self._first[rows]
        self.hits.setdefault(view, 0)
        if self.firsts.shape[1]:
            self.firsts[rows, list(self.hits).index(view)] = first
        self.records += len(first)
        self.mass += sorted_prob.cumsum(1).sum(0)
        self.entropy[rows] += found['entropy']
        self.same[rows] &= (known == first) | (known < 0)
        self._first[rows] = first
        self.first_counts += np.bincount(first, minlength=self.num_classes)
        if label is not None:
            right = first == label
            found['label_prob'] = label_probability(record, label, self.num_classes)
            self.hits[view] += int(right.sum())
            self.top5 += int((ranked[:, :5] == label[:, None]).any(1).sum())
            self.gap[rows] += sorted_prob[:, 0] - found['label_prob']
            self.confusions.update(zip(label[~right].tolist(), first[~right].tolist(), strict=True))
            self.class_views += np.bincount(label, minlength=self.num_classes)
            self.class_hits += np.bincount(label[right], minlength=self.num_classes)
            self.class_prob += np.bincount(label, found['label_prob'], self.num_classes)
            part = np.minimum((sorted_prob[:, 0] * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
            self.calibration += [np.bincount(part, weights, CALIBRATION_BINS)
                                 for weights in (np.ones(len(part)), sorted_prob[:, 0], right)]
        for name, values in found.items():
            edges = self.edges[name]
            self.counts[name] += np.histogram(values.clip(edges[0], edges[-1]), edges)[0]

    # ---------------------------------------------------------------- what they come to
    def mean_mass(self) -> dict[int, float]:
        """The mean probability of the K most probable classes together, for some K and the store's."""
        topk = len(self.mass)
        return {k: float(self.mass[k - 1] / max(self.records, 1)) for k in sorted({*MASS_AT, topk}) if k <= topk}

    def histograms(self) -> dict[str, dict[str, list]]:
        """``edges`` and ``counts`` by name."""
        return {name: dict(edges=self.edges[name].tolist(), counts=counts.tolist())
                for name, counts in self.counts.items()}

    def agreement(self) -> np.ndarray:
        """``(num,)`` float64: the share of the views whose first class is the sample's most frequent one."""
        views = len(self.hits)
        most = np.zeros(self.num, np.int64)
        for column in range(views):
            most = np.maximum(most, (self.firsts[:, :views] == self.firsts[:, column, None]).sum(1))
        return most / max(views, 1)

    def calibration_error(self) -> float:
        """The expected calibration error: the mean distance between confidence and accuracy over 15 equal bins.

        Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
        """
        return float(abs(self.calibration[1] - self.calibration[2]).sum() / max(self.calibration[0].sum(), 1))

    def reliability(self) -> list[dict[str, Any]]:
        """Of each bin that has any: ``views``, and their mean ``confidence`` and ``accuracy``."""
        return [dict(views=int(views), confidence=prob / views, accuracy=right / views)
                for views, prob, right in self.calibration.T.tolist() if views]

    def classes(self) -> list[dict[str, Any]]:
        """The labels that occur: ``label``, ``views``, ``accuracy``, ``label_prob`` (mean), and ``taken_for``, the
        class that it is taken for most often, with ``taken``, how often; None and 0 if never for another.
        """
        wrong: dict[int, tuple[int | None, int]] = {}
        for (label, predicted), count in self.confusions.items():
            if count > wrong.get(label, (None, 0))[1]:
                wrong[label] = predicted, count
        rows = []
        for label in np.flatnonzero(self.class_views).tolist():
            views, (other, count) = int(self.class_views[label]), wrong.get(label, (None, 0))
            rows.append(dict(label=label, views=views, accuracy=float(self.class_hits[label] / views),
                             label_prob=float(self.class_prob[label] / views), taken_for=other, taken=count))
        return rows
