"""Which classes a network takes for each other: class-by-class correlation of its outputs, from sparse records.

The Pearson correlation between the probabilities of two classes over many views, as in figure 3 of the TinyViT paper
(Wu et al., ECCV 2022). Its map shows what a teacher knows about how classes relate, and two maps can be compared.

21,841 classes have 477 million pairs. No such matrix is ever made: the entries of the records stay in memory, and the
map is computed some rows at a time, exactly, by whoever wants to see or sum them.
"""
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, Record
from mmtinyvit.store.codecs.bit_loops import compiled

__all__ = ['ENTRIES', 'LEAST', 'LEAST_CLASSES', 'ClassCorrelation', 'Likeness', 'compare_maps', 'correlate_store',
           'correlated_pairs']

ENTRIES = 20_000_000  # of all records together, where nobody asks for more: 320 MB
LEAST = 10  # records that a class must be found in: below, a correlation is that of a few images
LEAST_CLASSES = 5  # which two maps must know to be compared
_ROWS = 256  # of a map at a time: 45 MB with 21,841 classes
_BATCH = 4096

Watch = Callable[[Sequence[int]], Iterable[int]]


class ClassCorrelation:
    """The correlation of a network's classes over M records.

    A class that is not among the K of a record counts as 0 there. Of a class in fewer than ``least`` records nothing is
    known; it has no correlation with any other.

    Args:
        record: M rows of NumPy arrays; :meth:`Record.concat` joins those of several views. Each entry takes 16 bytes.
        num_classes: C.
        name: What to call the network.
        least: Records that a class must be in.
        numbers: ``(C,)`` int64, what each class is called in the map, if another network numbers the same classes
            otherwise; None leaves them as they are.

    Attributes:
        counts: ``(C,)`` int64, in how many records each class is.
        known: ``(C,)`` bool, whether those are enough, and the probability varies.
    """

    def __init__(self, record: Record, num_classes: int, name: str = '', least: int = LEAST,
                 numbers: np.ndarray | None = None) -> None:
        self.name, self.num_classes, self.num_records = name, num_classes, len(record.index)
        self._index = np.ascontiguousarray(record.index if numbers is None else numbers[record.index], np.int32)
        self._prob = np.exp(record.log_prob, dtype=np.float32)
        classes, weights = self._index.ravel(), self._prob.ravel().astype(np.float64)
        self._entries = np.argsort(classes, kind='stable')  # of each class, one class after the other
        self.counts = np.bincount(classes, minlength=num_classes)
        self._mean = np.bincount(classes, weights, num_classes) / max(self.num_records, 1)
        variance = np.bincount(classes, weights**2, num_classes) / max(self.num_records, 1) - self._mean**2
        self.known = (self.counts >= least) & (variance > 1e-12 * self._mean**2)
        self._scale = np.where(self.known, 1 / np.sqrt(np.where(self.known, variance, 1)), 0)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)])

    def rows(self, classes: Sequence[int] | np.ndarray) -> np.ndarray:
        """``(n, C)`` float64: the correlation of some classes with all; 0 where one of the two is not known."""
        classes = np.asarray(classes, np.int64)
        found = np.zeros((len(classes), self.num_classes))
        _correlate(classes, self._starts, self._entries, self._index, self._prob, self._mean, self._scale, found)
        return found

    def matrix(self, classes: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """``(n, n)`` float64: the correlation among some classes, or among all: 3.8 GB of 21,841."""
        classes = np.arange(self.num_classes) if classes is None else np.asarray(classes, np.int64)
        parts = [self.rows(classes[i:i + _ROWS])[:, classes] for i in range(0, len(classes), _ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, 0))

    def most_frequent(self, count: int) -> np.ndarray:
        """Those of the known classes that are in the most records, at most ``count``, in ascending order."""
        order = np.argsort(-np.where(self.known, self.counts, 0), kind='stable')[:min(count, self.known.sum())]
        return np.sort(order)

    def together(self, one: int, other: int) -> int:
        """In how many records two classes are both."""
        rows = self._entries[self._starts[one]:self._starts[one + 1]] // self._index.shape[1]
        return int((self._index[rows] == other).any(1).sum())


@compiled
def _correlate(classes, starts, entries, index, prob, mean, scale, found):
    """Write the correlation of class ``classes[i]`` with all into ``found[i]``, which is 0."""
    num_records, topk = index.shape
    for i in range(len(classes)):
        own = classes[i]
        for at in range(starts[own], starts[own + 1]):
            row = entries[at] // topk
            value = np.float64(prob[row, entries[at] % topk])
            for k in range(topk):
                found[i, index[row, k]] += value * prob[row, k]
        for other in range(len(mean)):
            found[i, other] = (found[i, other] / num_records - mean[own] * mean[other]) * scale[own] * scale[other]


def correlate_store(store: LogitStore, views: Sequence[int], positions: np.ndarray, topk: int | None = None,
                    watch: Watch = iter, numbers: np.ndarray | None = None) -> ClassCorrelation:
    """The correlation of a stored teacher's classes.

    Args:
        store: The store.
        views: Of which views.
        positions: ``(n,)`` int64, of which samples; K entries of 16 bytes stay in memory for each view of each.
        topk: Read only so many of the stored classes.
        watch: Wraps the views, for a progress bar.
        numbers: As for :class:`ClassCorrelation`.

    Raises:
        StoreError: A record is missing or damaged, or the store has fewer classes than ``topk``.
    """
    parts = []
    for view in watch(views):
        for start in range(0, len(positions), _BATCH):
            index, log_prob, tail_mass, _ = store.read_positions(view, positions[start:start + _BATCH], topk)
            parts.append(Record(index.astype(np.int32), log_prob, tail_mass))
    return ClassCorrelation(Record.concat(parts), store.num_classes, str(store.root), numbers=numbers)


# ---------------------------------------------------------------- what a map says
class Likeness(NamedTuple):
    """How maps compare.

    Attributes:
        alike: ``(n, n)`` float64, the Pearson correlation between the entries of two maps off the diagonal, over the
            classes that both know: 1 for the same map, 0 for unrelated ones; NaN where one of them is flat, or where
            they both know fewer than ``LEAST_CLASSES``.
        classes: ``(n, n)`` int64, how many classes both know.
        strength: ``(n,)`` float64, the root mean square of a map's entries off the diagonal; 0 is flat.
    """
    alike: np.ndarray
    classes: np.ndarray
    strength: np.ndarray


def compare_maps(maps: Sequence[ClassCorrelation], among: Sequence[int] | np.ndarray | None = None,
                 watch: Watch = iter) -> Likeness:
    """Compare each map with each.

    Args:
        maps: Of the same classes.
        among: Only these classes; None takes all.
        watch: Wraps the work, for a progress bar.

    Raises:
        UserError: They have different numbers of classes.
    """
    _require_same_number(maps)
    wanted = np.zeros(maps[0].num_classes, bool)
    wanted[slice(None) if among is None else np.asarray(among, np.int64)] = True
    masks = [each.known & wanted for each in maps]
    sums = np.zeros((len(maps), len(maps), 5))  # of x, y, xx, yy, xy
    for rows, first in _strips(maps, np.logical_or.reduce(masks), watch):
        for a, b in combinations_with_replacement(range(len(maps)), 2):
            both = (masks[a] & masks[b]).astype(np.float64)
            factors = [(rows[a], ), (rows[b], ), (rows[a], rows[a]), (rows[b], rows[b]), (rows[a], rows[b])]
            sums[a, b] += [_masked_sum(both[first], both, *each) for each in factors]
    classes = np.array([[(a & b).sum() for b in masks] for a in masks])
    upper = np.triu_indices(len(maps))
    pairs = np.maximum(classes * (classes - 1), 1)[upper]
    x, y, xx, yy, xy = (sums[upper] / pairs[:, None]).T
    varying = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    alike = np.full(classes.shape, np.nan)
    said = (varying > 1e-12) & (classes[upper] >= LEAST_CLASSES)
    alike[upper] = np.where(said, (xy - x * y) / np.where(said, varying, 1), np.nan)
    alike.T[upper] = alike[upper]
    strength = np.sqrt(sums[range(len(maps)), range(len(maps)), 2] / np.maximum(np.diag(classes * (classes - 1)), 1))
    return Likeness(alike, classes, strength)


def _masked_sum(left: np.ndarray, right: np.ndarray, *factors: np.ndarray) -> float:
    """The sum of a product of matrices, entry by entry, over the rows ``left`` and columns ``right``: 1 or 0."""
    return float(left @ np.einsum(f'{",".join(["ij"] * len(factors))},j->i', *factors, right))


def correlated_pairs(found: ClassCorrelation, count: int, watch: Watch = iter) -> list[tuple[int, int, float]]:
    """The pairs of known classes with the largest correlation, at most ``count``: two classes, and the correlation."""
    best: list[tuple[int, int, float]] = []
    for (rows, ), first in _strips([found], found.known, watch):
        least = best[-1][2] if len(best) == count else -1.5
        rows[:, ~found.known] = -2.
        high = rows >= least
        high &= np.arange(found.num_classes) > first[:, None]
        i, j = np.nonzero(high)
        order = np.argsort(-rows[i, j], kind='stable')[:count]
        best += [(int(first[i[n]]), int(j[n]), float(rows[i[n], j[n]])) for n in order]
        best = sorted(best, key=lambda pair: (-pair[2], pair[:2]))[:count]
    return best


def _strips(maps: Sequence[ClassCorrelation], classes: np.ndarray, watch: Watch
            ) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """The rows of the ``classes`` (a mask), some at a time, of each map, with 0 on the diagonal; and their classes."""
    chosen = np.flatnonzero(classes)
    for start in watch(range(0, len(chosen), _ROWS)):
        part = chosen[start:start + _ROWS]
        rows = [each.rows(part) for each in maps]
        for each in rows:
            each[range(len(part)), part] = 0
        yield rows, part


def _require_same_number(maps: Sequence[ClassCorrelation]) -> None:
    """Raise :class:`UserError` unless all maps have the same number of classes."""
    for other in maps[1:]:
        if other.num_classes != maps[0].num_classes:
            raise UserError(f'{maps[0].name} has {maps[0].num_classes:,} classes and {other.name} has '
                            f'{other.num_classes:,}: compare networks with the same outputs.')
