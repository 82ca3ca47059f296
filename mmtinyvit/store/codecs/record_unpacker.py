"""Unpacking records of the codec ``smallest``, a batch at a time."""
import numpy as np

from .level_code import MAX_EXTRA, code_tables
from .record_layout import RecordLayout
from .root_levels import LEAST, decode_tail

__all__ = ['RecordUnpacker']

_NOTHING = 1e-12  # what a class that was not stored reads as, where there is no tail


class RecordUnpacker:
    """The inverse of :class:`RecordPacker`.

    All numbers of a batch are unpacked together: the unary parts, wherever they lie, are the distances between set
    bits, and what has a length of its own in each record is worked on as the rows of a rectangle, of which the ends are
    not looked at.

    Args:
        layout: The records' layout.
        num_classes: C.
        max_level: The largest level.
    """

    def __init__(self, layout: RecordLayout, num_classes: int, max_level: int) -> None:
        self.layout, self.topk, self.num_classes = layout, layout.topk, num_classes
        self._columns = np.arange(layout.topk)
        self._places = np.arange(8 * layout.record_bytes, dtype=np.int32)
        self._unary_end = 8 * layout.record_bytes
        self._first, self._extra = (table.ravel() for table in code_tables(self._unary_end))
        levels = np.maximum(np.arange(max_level + 1), LEAST)
        self._log, self._square = (2 * np.log(levels)).astype(np.float32), levels**2

    def unpack(self, records: np.ndarray, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index, log-probability and tail mass of ``(n, record_bytes)`` records; see ``Codec.decode``."""
        head, index, ends, start = self._read_lists(records, reference, with_levels=True)
        count, code = head['count'], head['code'][:, None]
        beyond = None if count.min() == self.topk else self._columns >= count[:, None]
        unary = ends - 1  # of the columns beyond, anything
        unary[:, 1:] -= ends[:, :-1]
        unary[:, 0] -= start
        if beyond is not None:
            unary[beyond] = 0
        unary += code * self._unary_end
        extra = self._extra.take(unary)
        if beyond is not None:
            extra[beyond] = 0
        places = extra.cumsum(axis=1)
        places += (ends[np.arange(len(records)), count - 1] + 1)[:, None]
        _refuse((extra > MAX_EXTRA) | (places > self.layout.last_bit), 'a level out of range')
        places -= extra
        levels = self.layout.read_bits(records, places, extra)
        levels += self._first.take(unary)
        levels += head['floor'][:, None]
        _refuse(levels >= len(self._log), 'a level out of range')

        tail, square, log_prob = decode_tail(head['tail']), self._square.take(levels), self._log.take(levels)
        if beyond is not None:
            square[beyond] = 0
        log_prob += np.log((1.0 - tail) / square.sum(axis=1)).astype(np.float32)[:, None]
        return (index, log_prob, tail) if beyond is None else self._fill(index, log_prob, tail, count)

    def classes(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes of records that are not relative.

        Returns:
            ``(n, K)`` int64, ascending, C behind the last; and ``(n,)`` how many each has.
        """
        head, index, _, _ = self._read_lists(records, None, with_levels=False)
        return index, head['count']

    def _read_lists(self, records: np.ndarray, reference: np.ndarray | None,
                    with_levels: bool) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """The head; the classes; the bits ``(n, K)`` in which the levels' unary parts end; and the bit before them."""
        num, topk, layout = len(records), self.topk, self.layout
        head = layout.read_head(records)
        start, new_count, shared = layout.head_bits, head['count'], None
        if head['relative'].any():
            theirs, shared = self._read_shared(records, head['relative'], reference)
            new_count = new_count - shared.sum(axis=1)
            start = start + topk * head['relative'][:, None]
        width = head['gap_bits'][:, None]
        unary = start + new_count[:, None] * width
        _refuse((head['count'] > topk) | (new_count < 0) | (unary[:, 0] > layout.last_bit), 'not K classes')

        ones, first, bases = self._find_ones(records, unary)
        _refuse(np.diff(first) < new_count + head['count'] * with_levels, 'not K classes')
        first = first[:-1, None]
        columns = self._columns[:int(new_count.max())]
        ends = ones.take(first + columns, mode='clip')
        ends -= bases
        low = layout.read_bits(records, np.minimum(start + columns * width, layout.last_bit), width)
        low += 1
        classes = (ends - unary - columns << width) + low.cumsum(axis=1) - 1
        index = self._join(classes, new_count, theirs, shared) if shared is not None else self._pad(classes, new_count)
        _refuse(index[np.arange(num), head['count'] - 1] >= self.num_classes, 'a class out of range')
        if not with_levels:
            return head, index, ends, unary
        before = np.where(new_count > 0, ends[np.arange(num), new_count - 1] if ends.size else 0, unary[:, 0] - 1)
        ends = ones.take(first + new_count[:, None] + self._columns, mode='clip')
        return head, index, ends - bases, before

    def _find_ones(self, records: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where bits are set from ``start`` ``(n, 1)`` on.

        Returns:
            All of them, record after record; ``(n + 1,)`` where each record's begin; and ``(n, 1)`` what is to be taken
            off for the place within a record.
        """
        skipped = int(start.min()) >> 3
        used = int(records.any(axis=0).nonzero()[0].max(initial=skipped)) + 1
        bits = np.unpackbits(records[:, skipped:used], axis=1, bitorder='little')
        bits &= (self._places[8 * skipped:8 * used] >= start.astype(np.int32)).view(np.uint8)
        ones = np.flatnonzero(bits.view(bool))
        bases = np.arange(0, bits.size + 1, bits.shape[1])
        return ones, ones.searchsorted(bases), bases[:-1, None] - 8 * skipped

    def _read_shared(self, records: np.ndarray, relative: np.ndarray,
                     reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The references' classes, and ``(n, K)`` bool: which of them the records have."""
        if reference is None:
            raise ValueError('a reference that is not there')
        theirs, count = self.classes(reference)
        end = self.layout.head_bits + self.topk
        bits = np.unpackbits(records[:, :-(-end // 8)], axis=1, bitorder='little')
        shared = (bits[:, self.layout.head_bits:end] & relative[:, None].astype(np.uint8)).view(bool)
        _refuse(shared & (self._columns >= count[:, None]), 'a class that the reference lacks')
        return theirs, shared

    def _pad(self, classes: np.ndarray, count: np.ndarray) -> np.ndarray:
        if count.min() == self.topk:
            return classes
        index = np.full((len(count), self.topk), self.num_classes)
        index[:, :classes.shape[1]] = np.where(self._columns[:classes.shape[1]] < count[:, None], classes,
                                               self.num_classes)
        return index

    def _join(self, new: np.ndarray, new_count: np.ndarray, theirs: np.ndarray, shared: np.ndarray) -> np.ndarray:
        both = np.empty((len(new), new.shape[1] + self.topk), np.int32)
        both[:, :new.shape[1]] = np.where(self._columns[:new.shape[1]] < new_count[:, None], new, self.num_classes)
        both[:, new.shape[1]:] = np.where(shared, theirs, self.num_classes)
        both.sort(axis=1)
        _refuse((both[:, 1:] == both[:, :-1]) & (both[:, 1:] < self.num_classes), 'the same class twice')
        return both[:, :self.topk].astype(np.int64)

    def _fill(self, index: np.ndarray, log_prob: np.ndarray, tail: np.ndarray,
              count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gives the places behind the listed classes to free ones, each with an even share of the tail."""
        empty = self._columns >= count[:, None]
        taken = np.zeros((len(index), self.topk + 1), bool)
        np.put_along_axis(taken, np.minimum(index, self.topk), True, axis=1)
        free = ~taken[:, :-1]
        free &= free.cumsum(axis=1) <= (self.topk - count)[:, None]
        index[empty] = np.nonzero(free)[1]
        share = tail / np.maximum(self.num_classes - count, 1)
        log_prob[empty] = np.repeat(np.log(np.maximum(share, _NOTHING)), self.topk - count)
        order = index.argsort(axis=1)
        return (np.take_along_axis(index, order, 1), np.take_along_axis(log_prob, order, 1),
                share * (self.num_classes - self.topk))


def _refuse(bad: np.ndarray, fault: str) -> None:
    if bad.any():
        raise ValueError(fault)
