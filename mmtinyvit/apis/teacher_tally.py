"""What a stored teacher said, added up over views and samples and held against the labels."""
from collections import Counter
from typing import Any

import numpy as np

from mmtinyvit.store import LogitStore, Record

__all__ = ['TeacherTally']

MASS_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BINS = 40


class TeacherTally:
    """Sums over batches of records.

    Args:
        store: The store.
        labels: ``(n,)`` int64, the label of each sample, in the teacher's classes.

    Attributes:
        gap: ``(n,)`` float64, over the views: probability of the first class less that of the label.
        entropy: ``(n,)`` float64, nats over the views, the tail taken as even.
    """

    def __init__(self, store: LogitStore, labels: np.ndarray) -> None:
        self.store, self.labels = store, labels
        self.gap, self.entropy = np.zeros(len(labels)), np.zeros(len(labels))
        self._first, self._same = np.full(len(labels), -1), np.ones(len(labels), bool)
        self._mass, self._confusions = np.zeros(store.topk), Counter()
        self._hits: dict[int, int] = {}
        self._top5 = 0
        self._edges = dict(entropy=np.linspace(0, np.log(store.num_classes), _BINS + 1),
                           label_prob=np.linspace(0, 1, _BINS + 1))
        self._counts = {name: np.zeros(_BINS, np.int64) for name in self._edges}

    def add(self, view: int, rows: slice, record: Record) -> None:
        """Takes in what was said about the samples ``rows`` in one view; each sample once per view."""
        label = self.labels[rows, None]
        prob, tail = np.exp(record.log_prob.astype(np.float64)), record.tail_mass.astype(np.float64)
        even = tail / max(self.store.num_classes - self.store.topk, 1)
        order = np.argsort(-prob, axis=1, kind='stable')
        ranked = np.take_along_axis(record.index, order, 1)
        match = record.index == label
        label_prob = np.where(match.any(1), (prob * match).sum(1), even)
        entropy = -(prob * record.log_prob).sum(1) - tail * np.log(np.where(even > 0, even, 1))
        right = ranked[:, 0] == label[:, 0]
        self._hits[view] = self._hits.get(view, 0) + int(right.sum())
        self._top5 += int((ranked[:, :5] == label).any(1).sum())
        self._mass += np.cumsum(np.take_along_axis(prob, order, 1), axis=1).sum(0)
        self.gap[rows] += prob.max(1) - label_prob
        self.entropy[rows] += entropy
        self._same[rows] &= (self._first[rows] == ranked[:, 0]) | (self._first[rows] < 0)
        self._first[rows] = ranked[:, 0]
        self._confusions.update(zip(label[~right, 0].tolist(), ranked[~right, 0].tolist(), strict=True))
        for name, values in (('entropy', entropy), ('label_prob', label_prob)):
            edges = self._edges[name]
            self._counts[name] += np.histogram(values.clip(0, edges[-1]), edges)[0]

    def summary(self, worst: int) -> dict[str, Any]:
        """The sums as shares and means; ``worst`` confused pairs. Keys as in ``measure_store``."""
        num, views = len(self.labels), list(self._hits)
        total = num * len(views)
        top1_by_view = {view: hits / num for view, hits in self._hits.items()}
        return dict(
            samples=num, views=views, top1=float(np.mean(list(top1_by_view.values()))), top5=self._top5 / total,
            top1_by_view=top1_by_view, entropy=float(self.entropy.sum() / total), same_top1=float(self._same.mean()),
            mass={k: float(self._mass[k - 1] / total) for k in sorted({*MASS_AT, self.store.topk})
                  if k <= self.store.topk},
            confusions=[dict(label=label, predicted=predicted, views=count)
                        for (label, predicted), count in self._confusions.most_common(worst)],
            histograms={name: dict(edges=edges.tolist(), counts=self._counts[name].tolist())
                        for name, edges in self._edges.items()})
