"""The tail mass as a whole number: even steps on a square-root scale from both ends.

On that scale an error of the mass costs the same divergence everywhere.
"""
import numpy as np

__all__ = ['encode_tail', 'tail_masses']


def encode_tail(tail_mass: np.ndarray, bits: int) -> np.ndarray:
    """``(n,)`` int64: the number that stands for each mass.

    Zero stays zero; any other tail gets at least the first step and at most the last but one, so that neither side of
    the split ever becomes impossible.

    Args:
        tail_mass: ``(n,)`` float, in ``[0, 1]``.
        bits: Of each number.
    """
    tail, last = tail_mass.astype(np.float64), 2**bits - 1
    scale = np.where(tail <= 0.5, np.sqrt(tail / 2), 1 - np.sqrt((1 - tail) / 2))
    code = np.clip(np.rint(scale * last), 1, last - 1)
    return np.where(tail > 0, code, 0).astype(np.int64)


def tail_masses(bits: int) -> np.ndarray:
    """``(2**bits,)`` float64: the mass that each number stands for."""
    scale = np.arange(2**bits) / (2**bits - 1)
    return np.where(scale <= 0.5, 2 * scale**2, 1 - 2 * (1 - scale)**2)
