"""Unpacking records of the codec ``smallest``, bit after bit, in compiled loops."""
import math

import numpy as np

from .compiled import compiled, find_ones, num_words, read_number, read_only
from .gap_code import GAP_BITS
from .level_code import CODE_BITS, MAX_EXTRA, RICE_CODES
from .record_layout import FLOOR_BITS, RecordLayout
from .root_levels import LEAST, STEP_BITS, TAIL_BITS
from .tail_mass import tail_masses

__all__ = ['RecordUnpacker']

_NOTHING = 1e-12  # what a class that was not stored reads as, where there is no tail
_FAULTS = ('', 'a reference that is not there', 'not K classes', 'a class that the reference lacks',
           'the same class twice', 'a class out of range', 'a level out of range', 'no mass but the tail')
_NO_REFERENCE, _NOT_K, _LACKING, _TWICE, _CLASS, _LEVEL, _MASS = range(1, len(_FAULTS))


class RecordUnpacker:
    """The inverse of :class:`RecordPacker`.

    Args:
        layout: The records' layout.
        num_classes: C.
        max_level: The largest level.
    """

    def __init__(self, layout: RecordLayout, num_classes: int, max_level: int) -> None:
        levels = np.maximum(np.arange(max_level + 1), LEAST)
        self._sizes: _Sizes = layout.topk, num_classes, layout.fields['count'], 8 * layout.record_bytes
        self._tables: _Tables = tail_masses(TAIL_BITS), levels**2, (2 * np.log(levels)).astype(np.float32)

    def unpack(self, records: np.ndarray, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index, log-probability and tail mass of ``(n, record_bytes)`` records; see ``Codec.decode``."""
        num, topk = len(records), self._sizes[0]
        index, log_prob, tail = np.empty((num, topk), np.int64), np.empty((num, topk), np.float32), np.empty(num)
        records = read_only(records)
        theirs = records[:0] if reference is None else read_only(reference)
        _refuse(_unpack(self._sizes, self._tables, records, theirs, index, log_prob, tail))
        return index, log_prob, tail.astype(np.float32)

    def classes(self, records: np.ndarray) -> np.ndarray:
        """``(n, K)`` int64: the classes of records that are not relative, ascending, C behind the last."""
        topk, num_classes = self._sizes[:2]
        index = np.full((len(records), topk), num_classes)
        _refuse(_unpack_classes(self._sizes, read_only(records), index))
        return index


def _refuse(fault: int) -> None:
    if fault:
        raise ValueError(_FAULTS[fault])


# The loops are given plain tuples: what Numba keeps on disk of a class would be in the way of ever renaming it.
# _Sizes: K; C; bits of the number of listed classes; bits of a record.
# _Tables: ``(1024,)`` float64, the mass that each code of the tail stands for; ``(levels,)`` float64, what each level
# stands for, but for a factor; ``(levels,)`` float32, its logarithm.
_Sizes = tuple[int, int, int, int]
_Tables = tuple[np.ndarray, np.ndarray, np.ndarray]


@compiled
def _unpack(sizes: _Sizes, tables: _Tables, records: np.ndarray, references: np.ndarray, index: np.ndarray,
            log_prob: np.ndarray, tail: np.ndarray) -> int:
    """Fills in the last three; returns the number of a fault, or 0."""
    topk, words = sizes[0], np.zeros(num_words(records.shape[1]), np.uint64)
    theirs, places = np.empty(topk, np.int64), np.empty((2, topk), np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        known = -1
        if records[i, 0] & 1 and len(references):
            row[:] = references[i]
            known, _, fault = _read_classes(sizes, words, places, theirs, -1, theirs)
            if fault:
                return fault
        row[:] = records[i]
        count, at, fault = _read_classes(sizes, words, places, theirs, known, index[i])
        if fault:
            return fault
        total, fault = _read_levels(tables, words, at, sizes[3], count, places[0], log_prob[i])
        if fault:
            return fault
        tail[i] = tables[0][read_number(words, _TAIL_AT, TAIL_BITS)]
        if tail[i] >= 1:
            return _MASS
        factor = np.float32(math.log((1 - tail[i]) / total))
        for k in range(count):
            log_prob[i, k] += factor
        if count < topk:
            tail[i] = _fill(sizes, index[i], log_prob[i], count, tail[i])
    return 0


@compiled
def _unpack_classes(sizes: _Sizes, records: np.ndarray, index: np.ndarray) -> int:
    """Fills in the classes; returns the number of a fault, or 0."""
    words, places = np.zeros(num_words(records.shape[1]), np.uint64), np.empty((2, sizes[0]), np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        row[:] = records[i]
        _, _, fault = _read_classes(sizes, words, places, index[i], -1, index[i])
        if fault:
            return fault
    return 0


# ---------------------------------------------------------------- the fields of the head
_CODE_AT = 1 + STEP_BITS
_GAP_AT = _CODE_AT + CODE_BITS
_FLOOR_AT = _GAP_AT + GAP_BITS
_TAIL_AT = _FLOOR_AT + FLOOR_BITS
_COUNT_AT = _TAIL_AT + TAIL_BITS


# ---------------------------------------------------------------- the lists
@compiled
def _read_classes(sizes: _Sizes, words: np.ndarray, places: np.ndarray, theirs: np.ndarray, known: int,
                  index: np.ndarray) -> tuple[int, int, int]:
    """The listed classes, into the beginning of ``index``; ``theirs`` has the ``known`` ones of the reference, if any.

    Returns:
        How many; the bit behind their unary parts; the number of a fault, or 0.
    """
    topk, num_classes, count_bits, end = sizes
    count = read_number(words, _COUNT_AT, count_bits) + 1
    marks = _COUNT_AT + count_bits
    (shared, ends), low, num_shared = places, marks, 0
    if words[0] & 1:
        if known < 0:
            return 0, 0, _NO_REFERENCE
        low = marks + topk
        num_shared = find_ones(words, marks, low, shared, topk)
        if num_shared and shared[num_shared - 1] - marks >= known:
            return 0, 0, _LACKING
    num_new, width = count - num_shared, read_number(words, _GAP_AT, GAP_BITS)
    start = low + num_new * width
    if count > topk or num_new < 0 or find_ones(words, start, end, ends, num_new) < num_new:
        return 0, 0, _NOT_K

    new, num, at = -1, 0, start
    for k in range(num_new):
        new += (ends[k] - at << width) + read_number(words, low + k * width, width) + 1
        at = ends[k] + 1
        while num - k < num_shared and theirs[shared[num - k] - marks] <= new:
            index[num] = theirs[shared[num - k] - marks]
            num += 1
        if num and index[num - 1] == new:
            return 0, 0, _TWICE
        index[num] = new
        num += 1
    for k in range(num - num_new, num_shared):
        index[num_new + k] = theirs[shared[k] - marks]
    if index[count - 1] >= num_classes:
        return 0, 0, _CLASS
    return count, at, 0


@compiled
def _read_levels(tables: _Tables, words: np.ndarray, at: int, end: int, count: int, ends: np.ndarray,
                 log: np.ndarray) -> tuple[float, int]:
    """The logarithms of what ``count`` levels from the bit ``at`` on stand for, but for a factor, into ``log``.

    Returns:
        The sum of what they stand for; the number of a fault, or 0.
    """
    _, square, logarithm = tables
    code, floor = read_number(words, _CODE_AT, CODE_BITS), read_number(words, _FLOOR_AT, FLOOR_BITS)
    order, growing = code % RICE_CODES, code >= RICE_CODES
    if find_ones(words, at, end, ends, count) < count:
        return 0.0, _NOT_K
    total, rest = 0.0, ends[count - 1] + 1
    for k in range(count):
        unary, extra = ends[k] - at, order
        at = ends[k] + 1
        if growing:
            extra += unary
            if extra > MAX_EXTRA:
                return 0.0, _LEVEL
            unary = (1 << unary) - 1
        if rest + extra > end:
            return 0.0, _LEVEL
        level = (unary << order) + read_number(words, rest, extra) + floor
        rest += extra
        if level >= len(square):
            return 0.0, _LEVEL
        total += square[level]
        log[k] = logarithm[level]
    return total, 0


@compiled
def _fill(sizes: _Sizes, index: np.ndarray, log_prob: np.ndarray, count: int, tail: float) -> float:
    """Gives the places behind ``count`` listed classes to the smallest free ones, each with an even share of the tail.

    Returns:
        The mass of the classes that are left.
    """
    topk, num_classes = sizes[:2]
    share = tail / max(num_classes - count, 1)
    log_share = np.float32(math.log(max(share, _NOTHING)))
    free, listed = 0, 0  # how many free classes come before the one looked at, and how many listed ones
    missing = topk - count
    while free < missing:
        if listed < count and index[listed] == free + listed:
            listed += 1
        else:
            free += 1
    # So many listed classes lie among the free ones; from the back, so that nothing is overwritten before it is moved.
    for k in range(count - 1, listed - 1, -1):
        index[k + missing], log_prob[k + missing] = index[k], log_prob[k]
    at = listed - 1
    for k in range(listed + missing - 1, -1, -1):
        if at >= 0 and index[at] == k:
            index[k], log_prob[k] = index[at], log_prob[at]
            at -= 1
        else:
            index[k], log_prob[k] = k, log_share
    return share * (num_classes - topk)
