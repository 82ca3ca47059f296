"""Small whole numbers with few large ones, each in a unary part and extra bits: Rice and exponential Golomb codes."""
import numpy as np

__all__ = ['CODE_BITS', 'MAX_EXTRA', 'RICE_CODES', 'choose_code', 'split_levels']

CODE_BITS = 3
RICE_CODES = 4  # codes 0 to 3: Rice codes of that many extra bits; 4 to 7: exponential Golomb codes of order 0 to 3
MAX_EXTRA = 16


def split_levels(levels: np.ndarray, code: np.ndarray | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The unary part, the extra number, and how many bits it has, of each level.

    Args:
        levels: ``(m,)`` int64.
        code: ``(m,)`` int64, or one for all.
    """
    order, growing = np.mod(code, RICE_CODES), np.greater_equal(code, RICE_CODES)
    reduced = levels >> order
    doubled = np.frexp(reduced + 1.0)[1].astype(np.int64) - 1
    unary = np.where(growing, doubled, reduced)
    first = np.where(growing, (1 << doubled) - 1, reduced) << order
    return unary, levels - first, order + np.where(growing, doubled, 0)


def choose_code(levels: np.ndarray, rows: np.ndarray, num: int) -> np.ndarray:
    """``(num,)`` int64: the code in which each record's levels take the fewest bits, the first of equals.

    Args:
        levels: ``(m,)`` int64.
        rows: ``(m,)`` the record of each.
        num: How many records there are.
    """
    bits = []
    for code in range(2 * RICE_CODES):
        unary, _, extra = split_levels(levels, code)
        bits.append(np.bincount(rows, unary + 1 + extra, num))
    return np.argmin(bits, axis=0)
