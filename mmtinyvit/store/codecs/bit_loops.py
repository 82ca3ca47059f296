"""Unpacking records of the codecs ``compact`` and ``smallest``, in loops over single bits that Numba compiles.

The loops are compiled when they are first called. Their arguments are plain arrays, numbers and tuples: what Numba
keeps on disk of a class would be in the way of ever renaming it.
"""
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

from ..record import Record
from .rice_codes import CODE_BITS, FLOOR_BITS, GAP_BITS, MAX_EXTRA, RICE_CODES
from .root_levels import STEP_BITS, TAIL_BITS

__all__ = [
    'compiled', 'find_ones', 'num_words', 'read_number', 'read_only', 'refuse_fault', 'unpack', 'unpack_classes',
    'unpack_compact', 'unpack_smallest'
]

_NOTHING = 1e-12  # the probability of a class that `smallest` has not stored, where there is no tail
_FAULTS = ('', 'a reference that is not there', 'not K classes', 'a class that the reference lacks',
           'the same class twice', 'a class out of range', 'a level out of range', 'no mass but the tail')
_NO_REFERENCE, _NOT_K, _LACKING, _TWICE, _CLASS, _LEVEL, _MASS = range(1, len(_FAULTS))


def compiled(function: Callable) -> Callable:
    """Compiles ``function``, once per machine where a folder for the result can be written, else once per process.

    It releases the interpreter's lock. Indices are not checked: the caller keeps them within the arrays.
    """
    loop = njit(nogil=True)(function)
    with suppress(RuntimeError):  # neither the package's folder nor the user's cache can be written
        loop._cache = _Cache(function)  # what njit(cache=True) sets to a FunctionCache
    return loop


class _Cache(FunctionCache):
    """What Numba has compiled, on disk; where that is damaged, or the disk is full, it is compiled without."""

    def load_overload(self, *args: Any) -> Any:
        try:
            return super().load_overload(*args)
        except Exception:  # whatever unpickling a file raises that was cut off
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, *args: Any) -> None:
        with suppress(Exception):
            super().save_overload(*args)


def read_only(records: np.ndarray) -> np.ndarray:
    """The same numbers in an array of one kind: for every other kind a loop would be compiled again."""
    records = np.ascontiguousarray(records).view()
    records.setflags(write=False)
    return records


def refuse_fault(number: int) -> None:
    """Raises a ``ValueError`` that names the fault which a loop returned, unless it is 0."""
    if number:
        raise ValueError(_FAULTS[number])


def unpack(loop: Callable, topk: int, form: tuple, packed: np.ndarray) -> Record:
    """What ``Codec.decode`` returns for ``packed``, which ``loop`` unpacks with the arguments ``form`` before it."""
    num = len(packed)
    record = Record(np.empty((num, topk), np.int64), np.empty((num, topk), np.float32), np.empty(num, np.float32))
    refuse_fault(loop(*form, read_only(packed), *record[:3]))
    return record


# ---------------------------------------------------------------- strings of bits
@compiled
def num_words(num_bytes: int) -> int:
    """How many 64-bit words a string of bytes takes, with those behind it that are only looked at."""
    return num_bytes // 8 + 2


@compiled
def read_number(words: np.ndarray, at: int, width: int) -> int:
    """The number in ``width`` bits, up to 63, from the bit ``at`` on."""
    word, shift = np.uint64(at) >> np.uint64(6), np.uint64(at) & np.uint64(63)
    window = words[word] >> shift
    window |= (words[word + np.uint64(1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return np.int64(window & np.uint64((1 << width) - 1))


@compiled
def find_ones(words: np.ndarray, at: int, end: int, places: np.ndarray, most: int) -> int:
    """Which bits are set, from ``at`` to ``end`` - 1: the first ``most`` of them, into ``places``.

    Returns:
        How many there are, or ``most`` if there are more.
    """
    num = 0
    while at < end and num < most:
        places[num] = at  # stays if the bit is set, else the next one takes its place: no branch to mispredict
        num += np.int64(words[np.uint64(at) >> np.uint64(6)] >> (np.uint64(at) & np.uint64(63)) & np.uint64(1))
        at += 1
    return num


# ---------------------------------------------------------------- compact
@compiled
def unpack_compact(num_classes: int, low_bits: int, level_bits: int, tail_bits: int, levels: np.ndarray,
                   masses: np.ndarray, records: np.ndarray, index: np.ndarray, log_prob: np.ndarray,
                   tail_mass: np.ndarray) -> int:
    """Fills in the last three; ``CompactCodec`` describes the fields.

    The form is given piece by piece, because Numba takes long to look into a tuple where the caches are cold.

    Args:
        num_classes: C.
        low_bits: Bits of the low part of a class.
        level_bits: Bits of a level.
        tail_bits: Bits of the tail mass.
        levels: ``(2, 2**level_bits)`` float32, what each level stands for, but for a factor, and its logarithm.
        masses: ``(2**tail_bits,)`` float64, what each code of the tail stands for.
        records: ``(n, record_bytes)`` uint8, read-only.
        index: ``(n, K)`` int64.
        log_prob: ``(n, K)`` float32.
        tail_mass: ``(n,)`` float32.

    Returns:
        The number of a fault, or 0.
    """
    num, topk = index.shape
    high_end = topk + ((num_classes - 1) >> low_bits)
    words = np.zeros(num_words(records.shape[1]), np.uint64)
    row = words.view(np.uint8)[:records.shape[1]]
    ones, low, level = np.empty(topk + 1, np.int64), np.empty(topk, np.int64), np.empty(topk, np.int64)
    for i in range(num):
        row[:] = records[i]
        if find_ones(words, 0, high_end, ones, topk + 1) != topk:
            return _NOT_K
        at = _read_planes(words, high_end, low_bits, low)
        for k in range(topk):
            index[i, k] = ones[k] - k << low_bits | low[k]
            if index[i, k] >= num_classes:
                return _CLASS
        at, total = _read_planes(words, at, level_bits, level), 0.0
        for k in range(topk):
            total += levels[0, level[k]]  # single precision: exact, and so the same in any order, as long as below 32
        tail = masses[read_number(words, at, tail_bits)]
        if tail >= 1:
            return _MASS
        addend = math.log((1.0 - tail) / total)
        for k in range(topk):
            log_prob[i, k] = levels[1, level[k]] + addend
        tail_mass[i] = tail
    return 0


@compiled
def _read_planes(words: np.ndarray, at: int, width: int, numbers: np.ndarray) -> int:
    """The numbers whose bit planes begin at the bit ``at``, the lowest plane first; returns where they end."""
    numbers[:] = 0
    for plane in range(width):
        for start in range(0, len(numbers), 32):
            some = numbers[start:start + 32]
            window = read_number(words, at, len(some))
            for k in range(len(some)):
                some[k] |= (window >> k & 1) << plane
            at += len(some)
    return at


# ---------------------------------------------------------------- smallest
_Sizes = tuple[int, int, int, int]  # K; C; bits of the number of listed classes; bits of a record
# (1024,) float64, the mass that each code of the tail stands for; (levels,) float64, what each level stands for, but
# for a factor; (levels,) float32, its logarithm
_Tables = tuple[np.ndarray, np.ndarray, np.ndarray]

# where the fields of the head begin
_CODE_AT = 1 + STEP_BITS
_GAP_AT = _CODE_AT + CODE_BITS
_FLOOR_AT = _GAP_AT + GAP_BITS
_TAIL_AT = _FLOOR_AT + FLOOR_BITS
_COUNT_AT = _TAIL_AT + TAIL_BITS


@compiled
def unpack_smallest(sizes: _Sizes, tables: _Tables, known: np.ndarray, records: np.ndarray, index: np.ndarray,
                    log_prob: np.ndarray, tail_mass: np.ndarray) -> int:
    """Fills in the last three; ``SmallestCodec`` describes the fields.

    Args:
        sizes: See above.
        tables: See above.
        known: ``(n, K)`` int64, the classes of the records that these may be relative to, C behind the last; or none.
        records: ``(n, record_bytes)`` uint8, read-only.
        index: ``(n, K)`` int64.
        log_prob: ``(n, K)`` float32.
        tail_mass: ``(n,)`` float32.

    Returns:
        The number of a fault, or 0.
    """
    topk, words = sizes[0], np.zeros(num_words(records.shape[1]), np.uint64)
    nothing, places = np.empty(0, np.int64), np.empty((2, topk), np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        row[:] = records[i]
        count, at, fault = _read_classes(sizes, words, places, known[i] if len(known) else nothing, index[i])
        if fault:
            return fault
        total, fault = _read_levels(tables, words, at, sizes[3], count, places[0], log_prob[i])
        if fault:
            return fault
        tail = tables[0][read_number(words, _TAIL_AT, TAIL_BITS)]
        if tail >= 1:
            return _MASS
        factor = np.float32(math.log((1 - tail) / total))
        for k in range(count):
            log_prob[i, k] += factor
        if count < topk:
            tail = _fill(sizes, index[i], log_prob[i], count, tail)
        tail_mass[i] = tail
    return 0


@compiled
def unpack_classes(sizes: _Sizes, records: np.ndarray, index: np.ndarray) -> int:
    """Fills in the classes of records that are not relative; what lies behind the last stays as it is.

    Returns:
        The number of a fault, or 0.
    """
    words, places = np.zeros(num_words(records.shape[1]), np.uint64), np.empty((2, sizes[0]), np.int64)
    nothing = np.empty(0, np.int64)
    row = words.view(np.uint8)[:records.shape[1]]
    for i in range(len(records)):
        row[:] = records[i]
        _, _, fault = _read_classes(sizes, words, places, nothing, index[i])
        if fault:
            return fault
    return 0


@compiled
def _read_classes(sizes: _Sizes, words: np.ndarray, places: np.ndarray, known: np.ndarray,
                  index: np.ndarray) -> tuple[int, int, int]:
    """The listed classes, into the beginning of ``index``; ``known`` are those of the reference, C behind the last.

    Returns:
        How many; the bit behind their unary parts; the number of a fault, or 0.
    """
    topk, num_classes, count_bits, end = sizes
    count = read_number(words, _COUNT_AT, count_bits) + 1
    marks = _COUNT_AT + count_bits
    (shared, ends), low, num_shared = places, marks, 0
    if words[0] & 1:
        if not len(known):
            return 0, 0, _NO_REFERENCE
        low = marks + topk
        num_shared = find_ones(words, marks, low, shared, topk)
        if num_shared and known[shared[num_shared - 1] - marks] == num_classes:
            return 0, 0, _LACKING
    num_new, width = count - num_shared, read_number(words, _GAP_AT, GAP_BITS)
    start = low + num_new * width
    if count > topk or num_new < 0 or find_ones(words, start, end, ends, num_new) < num_new:
        return 0, 0, _NOT_K

    new, num, at = -1, 0, start
    for k in range(num_new):
        new += (ends[k] - at << width) + read_number(words, low + k * width, width) + 1
        at = ends[k] + 1
        while num - k < num_shared and known[shared[num - k] - marks] <= new:
            index[num] = known[shared[num - k] - marks]
            num += 1
        if num and index[num - 1] == new:
            return 0, 0, _TWICE
        index[num] = new
        num += 1
    for k in range(num - num_new, num_shared):
        index[num_new + k] = known[shared[k] - marks]
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
    listed, logs, at = index[:count].copy(), log_prob[:count].copy(), 0
    for k in range(topk):  # all classes below k are listed or taken, until the places are taken
        if at < count and (listed[at] == k or k - at == topk - count):
            index[k], log_prob[k] = listed[at], logs[at]
            at += 1
        else:
            index[k], log_prob[k] = k, log_share
    return share * (num_classes - topk)
