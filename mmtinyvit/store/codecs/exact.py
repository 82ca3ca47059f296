"""The original's content: 16-bit classes and half-precision probabilities."""
import numpy as np

from ..record import Record
from .base import Codec

__all__ = ['ExactCodec']

_LEAST = np.float32(2.0**-25)  # what a probability too small for half precision reads as


class ExactCodec(Codec):
    """K classes as ``<u2`` in ascending order, K probabilities as ``<f2``, the tail mass as ``<f2``.

    Half precision rounds a probability by up to 1/2048 of itself. One below 2^-24 may become zero, which reads back as
    2^-25; a tail mass that is not zero is at least 2^-24. Where rounding made another class as probable as the top-1,
    it is stored one unit in the last place lower.
    """
    name = 'exact'
    max_divergence = 1e-6

    def __init__(self, topk: int, num_classes: int) -> None:
        super().__init__(topk, num_classes)
        self.record_bytes = 4 * topk + 2

    def _encode(self, record: Record, reference: None) -> np.ndarray:
        order = record.index.argsort(axis=1)
        top = record.index[np.arange(len(order)), record.log_prob.argmax(axis=1)]
        index = np.take_along_axis(record.index, order, 1)
        half = np.exp(np.take_along_axis(record.log_prob, order, 1).astype(np.float64)).astype('<f2').view('<u2')
        tied = (half == half.max(axis=1, keepdims=True)) & (index != top[:, None]) & (half > 0)
        words = np.empty((len(index), 2 * self.topk + 1), '<u2')
        words[:, :self.topk] = index
        words[:, self.topk:-1] = half - tied
        tail = record.tail_mass.astype('<f2').view('<u2')
        words[:, -1] = np.maximum(tail, record.tail_mass > 0)  # a tail that is possible stays so
        return words.view(np.uint8)

    def decode(self, packed: np.ndarray, reference: None = None) -> Record:
        words = np.ascontiguousarray(packed).view('<u2')
        index = words[:, :self.topk].astype(np.int64)
        if (index >= self.num_classes).any():
            raise ValueError('a class out of range')
        prob = words[:, self.topk:-1].view('<f2').astype(np.float32)
        tail = words[:, -1].view('<f2').astype(np.float32)
        total = prob.sum(axis=1, dtype=np.float64) + tail
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError('the probabilities do not sum to a positive number')
        np.maximum(prob, _LEAST, out=prob)
        log_prob = np.log(prob)
        log_prob -= np.log(total).astype(np.float32)[:, None]
        return Record(index, log_prob, (tail / total).astype(np.float32))
