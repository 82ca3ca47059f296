"""The default: Elias-Fano classes, 7-bit relative log-probabilities, a 12-bit tail mass. Fixed width, O(1)."""
import numpy as np

from .base import Codec

__all__ = ['CompactCodec']

LEVEL_BITS = 7
TAIL_BITS = 12
_LEVELS = 2**LEVEL_BITS
_TAIL_MAX = 2**TAIL_BITS - 1
_ROWS = 1024  # rows unpacked at once: one byte per bit has to stay in the cache

# How far below the top-1 each level lies, in nats: level 0 is the top-1 itself, level n is the middle of its step.
# Steps grow from 1/32 to 1/4, because an error d in the logarithm of p costs p d**2 / 2. All values are exact binary
# fractions.
_M = 2 * np.arange(_LEVELS, dtype=np.float64) - 1
DEPTH = (512 * _M + 7 * _M**2) / 32768
DEPTH[0] = 0.0
_BOUNDS = (DEPTH[1:-1] + DEPTH[2:]) / 2  # between levels 1|2, 2|3, ... 126|127
_NEG_DEPTH = (-DEPTH).astype(np.float32)
_RATIO = np.exp(-DEPTH).astype(np.float32)


class CompactCodec(Codec):
    """Elias-Fano coded classes with quantised log-probabilities.

    The classes, ascending, are split into ``low_bits`` low bits, stored as they are, and the rest, stored in unary: bit
    ``(class >> low_bits) + rank`` of the high part is set. The number of low bits is the one that makes records
    shortest. The log-probabilities are stored relative to the top-1, so a flat distribution gets the finest steps, and
    are put back on their scale by the sum: the top K has 1 minus the tail mass.

    The bits of a record, lowest first in each byte, without gaps:
    high part (K + ((C - 1) >> low_bits)), low part (low_bits planes of K bits, the lowest plane first), levels (7
    planes of K bits), tail (12), zeros up to the byte.

    Source: P. Elias, "Efficient storage and retrieval by content and address of static files", J. ACM 21, 1974.
    """
    name = 'compact'

    def __init__(self, topk: int, num_classes: int) -> None:
        super().__init__(topk, num_classes)
        self.low_bits = min(range(17), key=lambda bits: bits * topk + ((num_classes - 1) >> bits))
        self._high_end = topk + ((num_classes - 1) >> self.low_bits)
        self._low_end = self._high_end + self.low_bits * topk
        self._level_end = self._low_end + LEVEL_BITS * topk
        self._num_bits = self._level_end + TAIL_BITS
        self.record_bytes = -(-self._num_bits // 8)

    # ---------------------------------------------------------------- encode
    def encode(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> np.ndarray:
        records = np.empty((len(index), self.record_bytes), np.uint8)
        for start in range(0, len(index), _ROWS):
            rows = slice(start, start + _ROWS)
            records[rows] = self._encode(index[rows], log_prob[rows], tail_mass[rows])
        return records

    def _encode(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> np.ndarray:
        num, rows = len(index), np.arange(len(index))
        depth = log_prob.astype(np.float64)
        top = depth.argmax(axis=1)
        depth = depth[rows, top, None] - depth
        levels = np.searchsorted(_BOUNDS, depth, side='right').astype(np.uint8) + 1
        levels[rows, top] = 0
        order = index.argsort(axis=1)
        index = np.take_along_axis(index, order, 1)
        levels = np.take_along_axis(levels, order, 1)

        bits = np.zeros((num, self._num_bits), np.uint8)
        bits[rows[:, None], (index >> self.low_bits) + np.arange(self.topk)] = 1
        self._put_planes(bits[:, self._high_end:self._low_end], index, self.low_bits)
        self._put_planes(bits[:, self._low_end:self._level_end], levels, LEVEL_BITS)
        tail = _tail_code(tail_mass) if self.topk < self.num_classes else np.zeros(num, np.int64)
        bits[:, self._level_end:] = (tail[:, None] >> np.arange(TAIL_BITS)) & 1
        return np.packbits(bits, axis=1, bitorder='little')

    def _put_planes(self, bits: np.ndarray, values: np.ndarray, width: int) -> None:
        for i in range(width):
            bits[:, i * self.topk:(i + 1) * self.topk] = (values >> i) & 1

    # ---------------------------------------------------------------- decode
    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num = len(records)
        index = np.empty((num, self.topk), np.int64)
        log_prob = np.empty((num, self.topk), np.float32)
        tail_mass = np.empty(num, np.float32)
        for start in range(0, num, _ROWS):
            rows = slice(start, start + _ROWS)
            self._decode(records[rows], index[rows], log_prob[rows], tail_mass[rows])
        return index, log_prob, tail_mass

    def _decode(self, records: np.ndarray, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> None:
        num, topk = len(records), self.topk
        bits = np.unpackbits(records, axis=1, bitorder='little')

        high = np.flatnonzero(bits[:, :self._high_end].view(bool))
        if len(high) != num * topk:
            raise ValueError('a record does not have K classes')
        np.subtract(high.reshape(num, topk), np.arange(num)[:, None] * self._high_end + np.arange(topk), out=index)
        index <<= self.low_bits
        index |= self._planes(bits[:, self._high_end:self._low_end], self.low_bits)
        # rows that share out K ones wrongly, or are not what encode() writes
        if index[:, 0].min() < 0 or index[:, -1].max() >= self.num_classes or (index[:, 1:] <= index[:, :-1]).any():
            raise ValueError('the classes of a record are not ascending and below C')

        level = self._planes(bits[:, self._low_end:self._level_end], LEVEL_BITS)
        tail = _tail_mass(bits[:, self._level_end:self._num_bits] @ _TAIL_WEIGHTS)
        _NEG_DEPTH.take(level, out=log_prob)
        total = _RATIO.take(level).sum(axis=1, dtype=np.float64)
        log_prob += np.log((1.0 - tail) / total).astype(np.float32)[:, None]
        tail_mass[:] = tail

    def _planes(self, bits: np.ndarray, width: int) -> np.ndarray:
        """``(n, K)``: the numbers whose bit planes are given, lowest plane first."""
        topk = self.topk
        values = np.zeros((len(bits), topk), np.uint8 if width <= 8 else np.uint16)
        for i in reversed(range(width)):
            values <<= 1
            values |= bits[:, i * topk:(i + 1) * topk]
        return values


# ---------------------------------------------------------------- the tail mass
_TAIL_WEIGHTS = (1 << np.arange(TAIL_BITS)).astype(np.float64)


def _tail_code(tail_mass: np.ndarray) -> np.ndarray:
    """Quantises on a square-root scale from both ends, on which the divergence costs the same everywhere.

    Zero stays zero; any other tail gets at least the first step and at most the last but one, so that neither side of
    the split ever becomes impossible.
    """
    tail = tail_mass.astype(np.float64)
    scale = np.where(tail <= 0.5, np.sqrt(tail / 2), 1 - np.sqrt((1 - tail) / 2))
    code = np.clip(np.rint(scale * _TAIL_MAX), 1, _TAIL_MAX - 1)
    return np.where(tail > 0, code, 0).astype(np.int64)


def _tail_mass(code: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_tail_code`, float64."""
    scale = code / _TAIL_MAX
    return np.where(scale <= 0.5, 2 * scale**2, 1 - 2 * (1 - scale)**2)
