"""The smallest: entropy-coded classes and levels, of variable length, relative to a reference view."""
import numpy as np

from ..record import Record
from .base import Codec, cut_lengths, encode_tail, tail_masses
from .rice_codes import (
    CODE_BITS,
    FLOOR_BITS,
    GAP_BITS,
    RICE_CODES,
    choose_code,
    class_gaps,
    fill_bits,
    number_items,
    running_sum,
    split_levels,
    weigh_gaps,
)
from .root_levels import LEAST, MAX_DIVERGENCE, STEP_BITS, TAIL_BITS, RootLevels

__all__ = ['SmallestCodec']

_FLOOR_MAX = 2**FLOOR_BITS - 1
_NOTHING = 1e-9  # a class less probable than this, where there is no tail, is as good as impossible
_SAME = 1e-4  # how far, of itself, rounding may move a probability


class SmallestCodec(Codec):
    """Rice-coded class gaps, entropy-coded square-root levels, and what a reference record has already said.

    Views of one image share most of their classes. So one view of a store, the reference view, is coded by itself, and
    a record of any other view says with one bit for each class of its reference record whether it has that class too,
    and lists only its others; or it is coded by itself as well, where that is shorter.

    An entry as probable as the classes of the tail are on average says nothing that the tail does not say. Such entries
    are not stored; they come back with the same probability under the first classes that are free, which is the same
    target.

    Probabilities are rounded as far as a divergence of 0.001 nat per record allows: see :class:`RootLevels`.

    The bits of a record, lowest first in each byte, without gaps: a head of seven fields; if the record is relative, K
    bits that say which classes of the reference it has; the low bits of the gaps of its other classes; in unary, the
    rest of these gaps and then the first part of each level; the second parts of the levels; zeros.

    Source: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979; P. Elias, "Universal
    codeword sets and representations of the integers", IEEE Trans. Inf. Theory 21, 1975.
    """
    name = 'smallest'
    max_divergence = MAX_DIVERGENCE
    variable = True
    relative = True

    def __init__(self, topk: int, num_classes: int) -> None:
        super().__init__(topk, num_classes)
        self._roots = RootLevels(topk)
        self._fields = dict(relative=1, step=STEP_BITS, code=CODE_BITS, gap_bits=GAP_BITS, floor=FLOOR_BITS,
                            tail=TAIL_BITS, count=(topk - 1).bit_length())
        self._head_bits = sum(self._fields.values())
        gaps = min(topk * (bits + 1) + (num_classes >> bits) for bits in range(2**GAP_BITS))
        levels = min(topk * (bits + 1) + (self._roots.max_sum >> bits) for bits in range(RICE_CODES))
        self.record_bytes = -(-(self._head_bits + gaps + levels) // 8)
        self._sizes = topk, num_classes, self._fields['count'], 8 * self.record_bytes
        values = np.maximum(np.arange(self._roots.max_level + 1), LEAST)
        self._tables = tail_masses(TAIL_BITS), values**2, (2 * np.log(values)).astype(np.float32)

    def bytes_per_view(self, first: Record, other: Record | None = None, views: int = 1) -> float:
        reference = self.encode(first)
        alone = float(cut_lengths(reference).mean())
        if other is None:
            return alone
        relative = float(cut_lengths(self.encode(other, reference)).mean())
        return (alone + (views - 1) * relative) / views

    # ---------------------------------------------------------------- encode
    def _encode(self, record: Record, reference: np.ndarray | None) -> np.ndarray:
        """Chooses, for each record, what makes it shortest."""
        index, log_prob, tail_mass, _ = record
        order = index.argsort(axis=1)
        top = (order == log_prob.argmax(axis=1)[:, None]).argmax(axis=1)
        index = np.take_along_axis(index, order, 1)
        prob = np.exp(np.take_along_axis(log_prob, order, 1).astype(np.float64))
        tail = tail_mass.astype(np.float64)
        total = prob.sum(axis=1) + tail
        prob, tail = prob / total[:, None], tail / total
        listed = ~self._says_nothing(prob, top, tail)
        tail = np.where(tail > 0, tail + np.where(listed, 0, prob).sum(axis=1), 0)

        step, levels = self._roots.choose(prob, listed, top, tail)
        floor = np.minimum(levels, _FLOOR_MAX, where=listed, out=np.full_like(levels, _FLOOR_MAX)).min(axis=1)
        count = listed.sum(axis=1)
        rows = np.repeat(np.arange(len(index)), count)
        levels = levels[listed] - floor[rows]
        code = choose_code(levels, rows, len(index))

        gap_bits, alone = weigh_gaps(*class_gaps(index, listed))
        relative, new = np.zeros(len(index), bool), listed
        if reference is not None:
            shared, ours = self._compare(index, listed, self._classes(reference))
            beside_bits, beside = weigh_gaps(*class_gaps(index, listed & ~ours))
            relative = self.topk + beside < alone
            new = listed & ~(ours & relative[:, None])
            gap_bits = np.where(relative, beside_bits, gap_bits)

        bits, start = np.zeros((len(index), 8 * self.record_bytes), np.uint8), self._head_bits
        bits[:, :start] = self._head(relative=relative, step=step, code=code, gap_bits=gap_bits, floor=floor,
                                     tail=encode_tail(tail, TAIL_BITS), count=count - 1)
        if relative.any():
            bits[relative, start:start + self.topk] = shared[relative]
        start = _put_gaps(bits, *class_gaps(index, new), gap_bits, start + self.topk * relative)
        _put_levels(bits, levels, rows, count, code, start)
        return np.packbits(bits, axis=1, bitorder='little')

    def _says_nothing(self, prob: np.ndarray, top: np.ndarray, tail: np.ndarray) -> np.ndarray:
        """``(n, K)`` bool: entries that the tail can stand for."""
        share = tail / max(self.num_classes - self.topk, 1)
        same = np.abs(prob - share[:, None]) <= _SAME * share[:, None]
        same |= (prob < _NOTHING) & (tail == 0)[:, None]
        same &= ((prob.max(axis=1) > 2 * share) & (tail < 0.999))[:, None]  # the top-1 must stay the largest
        same[np.arange(len(prob)), top] = False
        return same

    def _compare(self, index: np.ndarray, listed: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(n, K)`` bool twice: which of the reference's classes are listed here too, and which entries these are."""
        rows = np.arange(len(index))[:, None] * (self.num_classes + 1)
        index, known = index + rows, known + rows  # so that classes of different records differ
        return np.isin(known, index[listed], kind='table'), np.isin(index, known, kind='table') & listed

    def _head(self, **values: np.ndarray) -> np.ndarray:
        """``(n, head bits)`` uint8: the fields of the head, in their order."""
        word, start = np.zeros(len(values['count']), np.int64), 0
        for name, width in self._fields.items():
            word |= values[name].astype(np.int64) << start
            start += width
        return (word[:, None] >> np.arange(start) & 1).astype(np.uint8)

    # ---------------------------------------------------------------- decode
    def decode(self, packed: np.ndarray, reference: np.ndarray | None = None) -> Record:
        from . import bit_loops as loops  # only here: it brings in Numba, a second and 100 MB
        known = np.empty((0, self.topk), np.int64) if reference is None else self._classes(reference)
        return loops.unpack(loops.unpack_smallest, self.topk, (self._sizes, self._tables, known), packed)

    def _classes(self, records: np.ndarray) -> np.ndarray:
        """``(n, K)`` int64: the classes of records that are not relative, ascending, C behind the last."""
        from . import bit_loops as loops
        index = np.full((len(records), self.topk), self.num_classes)
        loops.refuse_fault(loops.unpack_classes(self._sizes, loops.read_only(records), index))
        return index


def _put_gaps(bits: np.ndarray, gaps: np.ndarray, count: np.ndarray, gap_bits: np.ndarray,
              start: np.ndarray) -> np.ndarray:
    """Writes the classes; returns ``(n,)`` the bit behind them."""
    rows, number = number_items(count)
    width = gap_bits[rows]
    fill_bits(bits, rows, start[rows] + number * width, gaps & ((1 << width) - 1), width)
    start = start + count * gap_bits
    unary = (gaps >> width) + 1
    bits[rows, start[rows] + running_sum(unary, count) - 1] = 1
    return start + np.bincount(rows, unary, len(bits)).astype(np.int64)


def _put_levels(bits: np.ndarray, levels: np.ndarray, rows: np.ndarray, count: np.ndarray, code: np.ndarray,
                start: np.ndarray) -> None:
    """Writes the levels: all first parts, then all second ones."""
    unary, rest, extra = split_levels(levels, code[rows])
    unary += 1
    bits[rows, start[rows] + running_sum(unary, count) - 1] = 1
    start = start + np.bincount(rows, unary, len(bits)).astype(np.int64)
    fill_bits(bits, rows, start[rows] + running_sum(extra, count) - extra, rest, extra)
