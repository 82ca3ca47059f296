"""Packing records of the codec ``smallest``, a batch at a time."""
import numpy as np

from .bit_fields import fill_bits, number_items, running_sum
from .gap_code import class_gaps, weigh_gaps
from .level_code import choose_code, split_levels
from .record_layout import FLOOR_BITS, RecordLayout
from .root_levels import TAIL_BITS, RootLevels
from .tail_mass import encode_tail

__all__ = ['RecordPacker']

_FLOOR_MAX = 2**FLOOR_BITS - 1
_NOTHING = 1e-9  # a class less probable than this, where there is no tail, is as good as impossible
_SAME = 1e-4  # how far, of itself, rounding may move a probability


class RecordPacker:
    """Chooses, for each record, what makes it shortest, and packs it.

    Args:
        layout: The records' layout.
        roots: How probabilities become levels.
        num_classes: C.
    """

    def __init__(self, layout: RecordLayout, roots: RootLevels, num_classes: int) -> None:
        self.layout, self.roots = layout, roots
        self.topk, self.num_classes = layout.topk, num_classes

    def pack(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
             theirs: np.ndarray | None) -> np.ndarray:
        """``(n, record_bytes)`` uint8; see ``Codec.encode``.

        Args:
            index: ``(n, K)`` int64.
            log_prob: ``(n, K)`` float32.
            tail_mass: ``(n,)`` float32.
            theirs: ``(n, K)`` int64, the classes that the reference records list, C behind the last; or None.
        """
        order = index.argsort(axis=1)
        top = (order == log_prob.argmax(axis=1)[:, None]).argmax(axis=1)
        index = np.take_along_axis(index, order, 1)
        prob = np.exp(np.take_along_axis(log_prob, order, 1).astype(np.float64))
        tail = tail_mass.astype(np.float64)
        total = prob.sum(axis=1) + tail
        prob, tail = prob / total[:, None], tail / total
        listed = ~self._says_nothing(prob, top, tail)
        tail = np.where(tail > 0, tail + np.where(listed, 0, prob).sum(axis=1), 0)

        step, levels = self.roots.choose(prob, listed, top, tail)
        floor = np.minimum(levels, _FLOOR_MAX, where=listed, out=np.full_like(levels, _FLOOR_MAX)).min(axis=1)
        count = listed.sum(axis=1)
        rows = np.repeat(np.arange(len(index)), count)
        levels = levels[listed] - floor[rows]
        code = choose_code(levels, rows, len(index))

        gap_bits, alone = weigh_gaps(*class_gaps(index, listed))
        relative, new = np.zeros(len(index), bool), listed
        if theirs is not None:
            shared, ours = self._compare(index, listed, theirs)
            beside_bits, beside = weigh_gaps(*class_gaps(index, listed & ~ours))
            relative = self.topk + beside < alone
            new = listed & ~(ours & relative[:, None])
            gap_bits = np.where(relative, beside_bits, gap_bits)

        bits = np.zeros((len(index), 8 * self.layout.record_bytes), np.uint8)
        start = self.layout.head_bits
        bits[:, :start] = self.layout.head_of(relative=relative, step=step, code=code, gap_bits=gap_bits, floor=floor,
                                              tail=encode_tail(tail, TAIL_BITS), count=count)
        if relative.any():
            bits[relative, start:start + self.topk] = shared[relative]
        start = self._put_gaps(bits, *class_gaps(index, new), gap_bits, start + self.topk * relative)
        self._put_levels(bits, levels, rows, count, code, start)
        return np.packbits(bits, axis=1, bitorder='little')

    def _says_nothing(self, prob: np.ndarray, top: np.ndarray, tail: np.ndarray) -> np.ndarray:
        """``(n, K)`` bool: entries that the tail can stand for."""
        share = tail / max(self.num_classes - self.topk, 1)
        same = np.abs(prob - share[:, None]) <= _SAME * share[:, None]
        same |= (prob < _NOTHING) & (tail == 0)[:, None]
        same &= ((prob.max(axis=1) > 2 * share) & (tail < 0.999))[:, None]  # the top-1 must stay the largest
        same[np.arange(len(prob)), top] = False
        return same

    def _compare(self, index: np.ndarray, listed: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(n, K)`` bool twice: which of the reference's classes are listed here too, and which entries these are."""
        rows, has = np.arange(len(index))[:, None], np.zeros((len(index), self.num_classes + 1), bool)
        np.put_along_axis(has, np.where(listed, index, self.num_classes), True, axis=1)
        has[:, self.num_classes] = False
        shared = has[rows, theirs]
        has[:] = False
        np.put_along_axis(has, theirs, True, axis=1)
        return shared, has[rows, index] & listed

    @staticmethod
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

    @staticmethod
    def _put_levels(bits: np.ndarray, levels: np.ndarray, rows: np.ndarray, count: np.ndarray, code: np.ndarray,
                    start: np.ndarray) -> None:
        unary, rest, extra = split_levels(levels, code[rows])
        unary += 1
        bits[rows, start[rows] + running_sum(unary, count) - 1] = 1
        start = start + np.bincount(rows, unary, len(bits)).astype(np.int64)
        fill_bits(bits, rows, start[rows] + running_sum(extra, count) - extra, rest, extra)
