"""Unpacking records of the codec ``smallest``, bit after bit, in compiled loops."""
import math
from typing import NamedTuple

import numpy as np

from .compiled import compiled, find_ones, num_words, read_number
from .gap_code import GAP_BITS
from .level_code import CODE_BITS, MAX_EXTRA, RICE_CODES
from .record_layout import FLOOR_BITS, RecordLayout
from .root_levels import LEAST, STEP_BITS, TAIL_BITS, decode_tail

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
        self._form = _Form(layout.topk, num_classes, layout.fields['count'], 8 * layout.record_bytes,
                           num_words(layout.record_bytes), decode_tail(np.arange(2**TAIL_BITS)), levels**2,
                           (2 * np.log(levels)).astype(np.float32))

    def unpack(self, records: np.ndarray, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index, log-probability and tail mass of ``(n, record_bytes)`` records; see ``Codec.decode``."""
        num, topk = len(records), self._form.topk
        index, log_prob, tail = np.empty((num, topk), np.int64), np.empty((num, topk), np.float32), np.empty(num)
        theirs = records[:0] if reference is None else reference
        _refuse(_unpack(self._form, records, theirs, index, log_prob, tail))
        return index, log_prob, tail.astype(np.float32)

    def classes(self, records: np.ndarray) -> np.ndarray:
        """``(n, K)`` int64: the classes of records that are not relative, ascending, C behind the last."""
        index = np.full((len(records), self._form.topk), self._form.num_classes)
        _refuse(_unpack_classes(self._form, records, index))
        return index


def _refuse(fault: int) -> None:
    if fault:
        raise ValueError(_FAULTS[fault])


class _Form(NamedTuple):
    """What the loops must know.

    Attributes:
        topk: K.
        num_classes: C.
        count_bits: Bits of the number of listed classes.
        end: Bits of a record.
        num_words: Words of 64 bits that hold one, with those that :func:`read_number` looks at.
        tail: ``(1024,)`` float64, the mass that each code of the tail stands for.
        square: ``(levels,)`` float64, what each level stands for, but for a factor.
        log: ``(levels,)`` float32, its logarithm.
    """
    topk: int
    num_classes: int
    count_bits: int
    end: int
    num_words: int
    tail: np.ndarray
    square: np.ndarray
    log: np.ndarray


@compiled
def _unpack(form: _Form, records: np.ndarray, references: np.ndarray, index: np.ndarray, log_prob: np.ndarray,
            tail: np.ndarray) -> int:
    """Fills in the arrays; returns the number of a fault, or 0."""
    words = np.zeros(form.num_words, np.uint64)
    theirs, places = np.empty(form.topk, np.int64), np.empty((2, form.topk), np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        known = -1
        if records[i, 0] & 1 and len(references):
            row[:] = references[i]
            known, _, fault = _read_classes(form, words, places, theirs, -1, theirs)
            if fault:
                return fault
        row[:] = records[i]
        count, at, fault = _read_classes(form, words, places, theirs, known, index[i])
        if fault:
            return fault
        total, fault = _read_levels(form, words, at, count, places[0], log_prob[i])
        if fault:
            return fault
        tail[i] = form.tail[read_number(words, _TAIL_AT, TAIL_BITS)]
        if tail[i] >= 1:
            return _MASS
        factor = np.float32(math.log((1 - tail[i]) / total))
        for k in range(count):
            log_prob[i, k] += factor
        if count < form.topk:
            tail[i] = _fill(form, index[i], log_prob[i], count, tail[i])
    return 0


@compiled
def _unpack_classes(form: _Form, records: np.ndarray, index: np.ndarray) -> int:
    """Fills in the classes; returns the number of a fault, or 0."""
    words, places = np.zeros(form.num_words, np.uint64), np.empty((2, form.topk), np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        row[:] = records[i]
        _, _, fault = _read_classes(form, words, places, index[i], -1, index[i])
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
def _read_classes(form: _Form, words: np.ndarray, places: np.ndarray, theirs: np.ndarray, known: int,
                  index: np.ndarray) -> tuple[int, int, int]:
    """The listed classes, into the beginning of ``index``; ``theirs`` has the ``known`` ones of the reference, if any.

    Returns:
        How many; the bit behind their unary parts; the number of a fault, or 0.
    """
    count = read_number(words, _COUNT_AT, form.count_bits) + 1
    marks = _COUNT_AT + form.count_bits
    (shared, ends), low, num_shared = places, marks, 0
    if words[0] & 1:
        if known < 0:
            return 0, 0, _NO_REFERENCE
        low = marks + form.topk
        num_shared = find_ones(words, marks, low, shared, form.topk)
        if num_shared and shared[num_shared - 1] - marks >= known:
            return 0, 0, _LACKING
    num_new, width = count - num_shared, read_number(words, _GAP_AT, GAP_BITS)
    start = low + num_new * width
    if count > form.topk or num_new < 0 or find_ones(words, start, form.end, ends, num_new) < num_new:
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
    if index[count - 1] >= form.num_classes:
        return 0, 0, _CLASS
    return count, at, 0


@compiled
def _read_levels(form: _Form, words: np.ndarray, at: int, count: int, ends: np.ndarray,
                 log: np.ndarray) -> tuple[float, int]:
    """The logarithms of what ``count`` levels from the bit ``at`` on stand for, but for a factor, into ``log``.

    Returns:
        The sum of what they stand for; the number of a fault, or 0.
    """
    code, floor = read_number(words, _CODE_AT, CODE_BITS), read_number(words, _FLOOR_AT, FLOOR_BITS)
    order, growing = code % RICE_CODES, code >= RICE_CODES
    if find_ones(words, at, form.end, ends, count) < count:
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
        if rest + extra > form.end:
            return 0.0, _LEVEL
        level = (unary << order) + read_number(words, rest, extra) + floor
        rest += extra
        if level >= len(form.square):
            return 0.0, _LEVEL
        total += form.square[level]
        log[k] = form.log[level]
    return total, 0


@compiled
def _fill(form: _Form, index: np.ndarray, log_prob: np.ndarray, count: int, tail: float) -> float:
    """Gives the places behind ``count`` listed classes to the smallest free ones, each with an even share of the tail.

    Returns:
        The mass of the classes that are left.
    """
    share = tail / max(form.num_classes - count, 1)
    log_share = np.float32(math.log(max(share, _NOTHING)))
    free, listed = 0, 0  # how many free classes come before the one looked at, and how many listed ones
    missing = form.topk - count
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
    return share * (form.num_classes - form.topk)
