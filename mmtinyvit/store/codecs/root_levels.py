"""Probabilities as whole multiples of a step on the square-root scale, the coarsest step that an error bound allows."""
import math

import numpy as np

from .base import encode_tail, tail_masses

__all__ = ['LEAST', 'MAX_DIVERGENCE', 'STEP_BITS', 'TAIL_BITS', 'RootLevels']

MAX_DIVERGENCE = 1e-3  # nats: of one record from what was given
STEP_BITS = 5
TAIL_BITS = 10
_STEPS = 2**STEP_BITS
LEAST = 0.3  # steps: where a root below half a step is taken to lie
_PER_OCTAVE = 8  # steps become half as wide every eight


class RootLevels:
    """Quantises the square roots of K probabilities.

    An error d in the logarithm of a probability p costs about p d**2 / 2 nats, which is 2 e**2 for an error e in the
    root of p: the same for large and small ones. So even steps of the roots spend an error where it is cheapest in
    bits, and small probabilities, which are many, get few levels. The width of the step is chosen for each record: the
    widest of 32 that keeps the divergence of the record, tail included, below :data:`MAX_DIVERGENCE`. Where none of
    them does, since several classes are almost as probable as the top-1, a width between the last of them is taken.

    Args:
        topk: K.

    Attributes:
        widths: ``(32,)`` float64, the widths, each a whole multiple of 2**-24.
        max_level: No level is larger.
        max_sum: No record's levels sum to more.
    """

    def __init__(self, topk: int) -> None:
        # The mean error of K roots is K step**2 / 6, the largest three times as much; the narrowest step keeps that.
        narrowest = math.sqrt(2 * 0.9 * MAX_DIVERGENCE / topk)
        widths = narrowest * 2 ** (np.arange(_STEPS)[::-1] / _PER_OCTAVE)
        self.widths = np.maximum(np.floor(widths * 2**24), 1) / 2**24
        # Near ties at the top: the top-1 is lifted above the others, and may end up almost two steps from its root.
        # With a width that is a little larger it does not. Readers do not need the width, so any will do.
        self._between = self.widths[-1] * 2 ** (np.arange(1, 48) / 48)
        self._tail_masses = tail_masses(TAIL_BITS)
        self.max_level = int(1 / self.widths[-1]) + 2
        self.max_sum = int(topk / 2 + math.sqrt(topk) / self.widths[-1]) + 3

    def choose(self, prob: np.ndarray, listed: np.ndarray, top: np.ndarray,
               tail_mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The step of each record, and the levels.

        Args:
            prob: ``(n, K)`` float64; with the tail they sum to one.
            listed: ``(n, K)`` bool, which of them are to be stored; the others count as zero.
            top: ``(n,)`` the column of the largest.
            tail_mass: ``(n,)`` float64, all that is not listed.

        Returns:
            ``(n,)`` and ``(n, K)`` int64. A width between has the number of the narrowest. The level of the top-1 is
            the largest, and the only one of its size.
        """
        coded = self._tail_masses.take(encode_tail(tail_mass, TAIL_BITS))
        prob = np.where(listed, prob, 0)
        constant = _times_log(prob, prob).sum(1) + _times_log(tail_mass, tail_mass) - _times_log(tail_mass, coded)
        given = prob, np.sqrt(prob), listed, top, coded, constant
        low, high = np.zeros(len(prob), np.int64), np.full(len(prob), _STEPS - 1)
        while (low < high).any():
            middle = (low + high) // 2
            good = self._round(self.widths[middle], *given)[0] <= MAX_DIVERGENCE
            high = np.where(good, middle, high)
            low = np.where(good, low, np.minimum(middle + 1, high))
        loss, levels = self._round(self.widths[high], *given)
        for width in self._between:  # the narrowest is not enough
            tied = np.flatnonzero(loss > MAX_DIVERGENCE)
            if not len(tied):
                break
            loss[tied], levels[tied] = self._round(np.full(len(tied), width), *(part[tied] for part in given))
        return high, levels

    def _round(self, width: np.ndarray, prob: np.ndarray, root: np.ndarray, listed: np.ndarray, top: np.ndarray,
               coded: np.ndarray, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The divergence of records whose steps have these widths, ``(n,)``, and their levels, ``(n, K)`` int64."""
        rows = np.arange(len(root))
        levels = np.rint(root / width[:, None]).astype(np.int64)
        first = levels[rows, top]
        levels[rows, top] = -1
        levels[rows, top] = np.maximum(first, levels.max(1) + 1)
        levels[rows, top] += levels[rows, top] == 0  # nothing else is listed, and the step is wide
        levels = np.where(listed, levels, 0)
        weight = np.where(listed, np.where(levels > 0, levels.astype(np.float64)**2, LEAST**2), 0)
        loss = constant - _times_log(prob, weight).sum(1) + _times_log(prob.sum(1), weight.sum(1) / (1 - coded))
        return loss, levels


def _times_log(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return p * np.log(np.where(p > 0, q, 1))
