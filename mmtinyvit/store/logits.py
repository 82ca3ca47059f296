"""The teacher's word on a batch of samples, as arrays."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .errors import StoreError

__all__ = ['TeacherLogits', 'check_logits']

_LOG_EPS = 1e-4  # how far rounding may lift a log-probability above 0
_SUM_EPS = 1e-3  # how far probabilities and tail may miss 1


class TeacherLogits(NamedTuple):
    """What a store says about ``n`` samples in one view.

    Attributes:
        index: ``(n, K)`` int64, classes in ascending order.
        log_prob: ``(n, K)`` float32, natural logarithms; the largest of a row is unique.
        tail_mass: ``(n,)`` float32, the probability of all other classes together.
        partner_hash: ``(n,)`` uint64, the key hash of the sample that each was mixed with; None without mixing.
    """
    index: np.ndarray
    log_prob: np.ndarray
    tail_mass: np.ndarray
    partner_hash: np.ndarray | None

    def row(self, i: int) -> 'TeacherLogits':
        """What it says about sample ``i``: ``(K,)``, ``(K,)`` and numbers."""
        partner = None if self.partner_hash is None else self.partner_hash[i]
        return TeacherLogits(self.index[i], self.log_prob[i], self.tail_mass[i], partner)


def check_logits(index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray, count: int, topk: int,
                 num_classes: int, name: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refuses what no softmax gives, before it is written.

    Args:
        index: ``(n, K)`` of any integer type.
        log_prob: ``(n, K)`` float.
        tail_mass: ``(n,)`` float.
        count: The expected n.
        topk: The expected K.
        num_classes: C.
        name: Words for row ``i`` in errors, such as ``"sample 'n01440764/1.JPEG' in view 3"``.

    Returns:
        The three arrays as int64, float32 and float32, log-probabilities and tail clipped into their range; without
        other classes the tail is 0.

    Raises:
        StoreError: A shape or type is wrong; or a value is, and then the first bad sample is named.
    """
    index, log_prob, tail_mass = np.asarray(index), np.asarray(log_prob), np.asarray(tail_mass)
    for what, array, shape, kinds in (('index', index, (count, topk), 'iu'),
                                      ('log_prob', log_prob, (count, topk), 'f'),
                                      ('tail_mass', tail_mass, (count,), 'f')):
        if array.shape != shape or array.dtype.kind not in kinds:
            kind = 'whole numbers' if kinds == 'iu' else 'floats'
            raise StoreError(f'{what} must hold {kind} of shape {shape}, not {array.dtype} of shape {array.shape}.')
    index = index.astype(np.int64, copy=False)
    log_prob, tail_mass = log_prob.astype(np.float32, copy=False), tail_mass.astype(np.float32, copy=False)

    def refuse(bad: np.ndarray, fault: str) -> None:
        if bad.any():
            raise StoreError(f'The teacher gave {name(int(bad.argmax()))} {fault}.')

    refuse(~(np.isfinite(log_prob).all(axis=1) & np.isfinite(tail_mass)),
           'a log-probability or tail mass that is NaN or infinite: check the checkpoint, and save without --amp')
    refuse((log_prob > _LOG_EPS).any(axis=1), 'a log-probability above 0: pass log_softmax of the logits')
    refuse((tail_mass < -_SUM_EPS) | (tail_mass > 1 + _SUM_EPS), 'a tail mass outside 0 to 1')
    refuse(((index < 0) | (index >= num_classes)).any(axis=1),
           f'a class outside 0 to {num_classes - 1}: the teacher and the store differ in num_classes')
    ordered = np.sort(index, axis=1)
    refuse((ordered[:, 1:] == ordered[:, :-1]).any(axis=1), 'the same class twice')
    total = np.exp(log_prob).sum(axis=1, dtype=np.float64) + tail_mass
    refuse(np.abs(total - 1) > _SUM_EPS, 'probabilities and a tail mass that do not sum to 1')
    tail_mass = np.clip(tail_mass, 0, 1) if topk < num_classes else np.zeros_like(tail_mass)
    return index, np.minimum(log_prob, 0), tail_mass
