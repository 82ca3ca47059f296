"""Unpacking records of the codec ``compact`` in a compiled loop."""
import math
from typing import NamedTuple

import numpy as np

from .compiled import compiled, find_ones, read_number

__all__ = ['LEVEL_BITS', 'TAIL_BITS', 'CompactForm', 'unpack_compact']

LEVEL_BITS = 7
TAIL_BITS = 12

_FAULTS = ('', 'not K classes', 'a class out of range')
_NOT_K, _CLASS = range(1, len(_FAULTS))


class CompactForm(NamedTuple):
    """What the loop must know; see ``CompactCodec`` for the fields.

    Attributes:
        num_classes: C.
        num_words: Words of 64 bits that hold a record, with those that :func:`read_number` looks at.
        low_bits: Bits of the low part of a class.
        high_end: Bits of the high part, where the low part begins.
        levels: ``(2, 128)`` float32, what each level stands for, but for a factor, and its logarithm.
    """
    num_classes: int
    num_words: int
    low_bits: int
    high_end: int
    levels: np.ndarray


def unpack_compact(form: CompactForm, records: np.ndarray, topk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, log-probability and tail mass of ``(n, record_bytes)`` records; see ``Codec.decode``."""
    num = len(records)
    index, log_prob = np.empty((num, topk), np.int64), np.empty((num, topk), np.float32)
    tail_mass = np.empty(num, np.float32)
    fault = _unpack(*form, records, index, log_prob, tail_mass)
    if fault:
        raise ValueError(_FAULTS[fault])
    return index, log_prob, tail_mass


@compiled
def _tail_mass(code: int) -> float:
    """The tail mass that was quantised to ``code``."""
    scale = code / (2**TAIL_BITS - 1)
    return 2 * (scale * scale) if scale <= 0.5 else 1 - 2 * ((1 - scale) * (1 - scale))


@compiled
def _unpack(num_classes: int, num_words: int, low_bits: int, high_end: int, levels: np.ndarray, records: np.ndarray,
            index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> int:
    """Fills in the arrays; returns the number of a fault, or 0."""
    num, topk = index.shape
    words = np.zeros(num_words, np.uint64)
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
        at, total = _read_planes(words, at, LEVEL_BITS, level), 0.0
        for k in range(topk):
            total += levels[0, level[k]]  # single precision: exact, and so the same in any order, as long as below 32
        tail = _tail_mass(read_number(words, at, TAIL_BITS))
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
