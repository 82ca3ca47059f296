"""The default: Elias-Fano classes, 7-bit relative log-probabilities, a 12-bit tail mass. Fixed width, O(1)."""
import bisect
import math

import numpy as np

from ..record import Record
from .base import Codec, encode_tail, tail_masses

__all__ = ['CompactCodec', 'level_depths']

_LEVEL_BITS = 7
_TAIL_BITS = 12
_LEVELS = 2**_LEVEL_BITS

_DEEPEST = 17.0  # nats: a class 24 million times less likely than the top-1 is as good as impossible
_COARSEST = 1.25  # nats: the widest step
_UNIT = 1024  # levels are whole multiples of 1/1024 nat, so that they are the same on every machine


def level_depths(topk: int) -> np.ndarray:
    """How far below the top-1 each of the 128 levels lies.

    An error d in the logarithm of a probability p costs about p d**2 / 2. Down to ln(K - 1) nats below the top-1, the
    other K - 1 classes could still hold half of the mass, so there the steps are even; from there on the mass that is
    possible falls by e per nat, and the steps grow by the root of that, which keeps the worst case the same everywhere.

    Returns:
        ``(128,)`` float64, in nats, ascending: 0 for the top-1 itself, then the middles of the steps.
    """
    knee = math.log(max(topk - 1, 1))

    def edges(finest: int) -> list[int]:
        edges = [0]
        while len(edges) < _LEVELS:
            growth = math.exp(max(edges[-1] / _UNIT - knee, 0) / 2)
            edges.append(edges[-1] + min(round(finest * growth), int(_COARSEST * _UNIT)))
        return edges

    finest = bisect.bisect_left(range(_UNIT), _DEEPEST * _UNIT, lo=1, key=lambda finest: edges(finest)[-1])
    chosen = np.array(edges(finest), np.float64) / _UNIT
    return np.concatenate([[0.0], (chosen[1:] + chosen[:-1]) / 2])


class CompactCodec(Codec):
    """Elias-Fano coded classes with quantised log-probabilities.

    The classes, ascending, are split into ``low_bits`` low bits, stored as they are, and the rest, stored in unary: bit
    ``(class >> low_bits) + rank`` of the high part is set. The number of low bits is the one that makes records
    shortest. The log-probabilities are stored as levels below the top-1 (see :func:`level_depths`), and are put back on
    their scale by their sum, which is 1 minus the tail mass.

    The bits of a record, lowest first in each byte, without gaps:
    high part (K + ((C - 1) >> low_bits)), low part (low_bits planes of K bits, the lowest plane first), levels (7
    planes of K bits), tail (12), zeros up to the byte.

    Source: P. Elias, "Efficient storage and retrieval by content and address of static files", J. ACM 21, 1974.
    """
    name = 'compact'
    max_divergence = 2e-4

    def __init__(self, topk: int, num_classes: int) -> None:
        super().__init__(topk, num_classes)
        self.low_bits = min(range(17), key=lambda bits: bits * topk + ((num_classes - 1) >> bits))
        self._high_end = topk + ((num_classes - 1) >> self.low_bits)
        self._low_end = self._high_end + self.low_bits * topk
        self._level_end = self._low_end + _LEVEL_BITS * topk
        self._num_bits = self._level_end + _TAIL_BITS
        self.record_bytes = -(-self._num_bits // 8)
        self._ranks = np.arange(topk)
        depths = level_depths(topk)
        self._bounds = (depths[1:-1] + depths[2:]) / 2  # between levels 1|2, 2|3, ... 126|127
        levels = np.stack([np.exp(-depths), -depths]).astype(np.float32)
        self._form = num_classes, self.low_bits, _LEVEL_BITS, _TAIL_BITS, levels, tail_masses(_TAIL_BITS)

    # ---------------------------------------------------------------- encode
    def _encode(self, record: Record, reference: None) -> np.ndarray:
        index, depth = record.index, record.log_prob.astype(np.float64)
        num, rows = len(index), np.arange(len(index))
        top = depth.argmax(axis=1)
        depth = depth[rows, top, None] - depth
        levels = np.searchsorted(self._bounds, depth, side='right').astype(np.uint8) + 1
        levels[rows, top] = 0
        order = index.argsort(axis=1)
        index = np.take_along_axis(index, order, 1)
        levels = np.take_along_axis(levels, order, 1)

        bits = np.zeros((num, self._num_bits), np.uint8)
        bits[rows[:, None], (index >> self.low_bits) + self._ranks] = 1
        self._put_planes(bits[:, self._high_end:self._low_end], index, self.low_bits)
        self._put_planes(bits[:, self._low_end:self._level_end], levels, _LEVEL_BITS)
        bits[:, self._level_end:] = (encode_tail(record.tail_mass, _TAIL_BITS)[:, None] >> np.arange(_TAIL_BITS)) & 1
        return np.packbits(bits, axis=1, bitorder='little')

    def _put_planes(self, bits: np.ndarray, values: np.ndarray, width: int) -> None:
        for i in range(width):
            bits[:, i * self.topk:(i + 1) * self.topk] = (values >> i) & 1

    # ---------------------------------------------------------------- decode
    def decode(self, packed: np.ndarray, reference: None = None) -> Record:
        from . import bit_loops as loops  # only here: it brings in Numba, a second and 100 MB
        return loops.unpack(loops.unpack_compact, self.topk, self._form, packed)
