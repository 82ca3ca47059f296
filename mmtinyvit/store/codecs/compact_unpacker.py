"""Unpacking records of the codec ``compact`` in a compiled loop."""
import math

import numpy as np

from .compact import LEVEL_BITS, TAIL_BITS, level_depths
from .compiled import compiled, find_ones, num_words, read_number, read_only
from .tail_mass import tail_masses

__all__ = ['CompactUnpacker']

_FAULTS = ('', 'not K classes', 'a class out of range', 'no mass but the tail')
_NOT_K, _CLASS, _MASS = range(1, len(_FAULTS))


class CompactUnpacker:
    """The decoding half of ``CompactCodec``, which describes the fields.

    Args:
        topk: K.
        num_classes: C.
        low_bits: Bits of the low part of a class.
    """

    def __init__(self, topk: int, num_classes: int, low_bits: int) -> None:
        self._topk = topk
        high_end = topk + ((num_classes - 1) >> low_bits)
        depths = level_depths(topk)
        levels = np.stack([np.exp(-depths), -depths]).astype(np.float32)
        self._form = num_classes, low_bits, high_end, levels, tail_masses(TAIL_BITS)

    def unpack(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index, log-probability and tail mass of ``(n, record_bytes)`` records; see ``Codec.decode``."""
        num, topk = len(records), self._topk
        index, log_prob = np.empty((num, topk), np.int64), np.empty((num, topk), np.float32)
        tail_mass = np.empty(num, np.float32)
        fault = _unpack(*self._form, read_only(records), index, log_prob, tail_mass)
        if fault:
            raise ValueError(_FAULTS[fault])
        return index, log_prob, tail_mass


@compiled
def _unpack(num_classes: int, low_bits: int, high_end: int, levels: np.ndarray, masses: np.ndarray,
            records: np.ndarray, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> int:
    """Fills in the last three; returns the number of a fault, or 0.

    The form is given piece by piece, because Numba takes long to look into a tuple where the caches are cold.
    """
    num, topk = index.shape
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
        at, total = _read_planes(words, at, LEVEL_BITS, level), 0.0
        for k in range(topk):
            total += levels[0, level[k]]  # single precision: exact, and so the same in any order, as long as below 32
        tail = masses[read_number(words, at, TAIL_BITS)]
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
