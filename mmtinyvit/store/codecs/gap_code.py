"""Ascending classes as the gaps between them, Rice-coded."""
import numpy as np

from .bit_fields import number_items

__all__ = ['GAP_BITS', 'class_gaps', 'weigh_gaps']

GAP_BITS = 4  # of the field that holds how many low bits of each gap are stored as they are


def class_gaps(index: np.ndarray, listed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many classes lie between listed neighbours, or before the first.

    Args:
        index: ``(n, K)`` int64, ascending.
        listed: ``(n, K)`` bool.

    Returns:
        ``(m,)`` gaps, row after row, and ``(n,)`` how many each row has.
    """
    count = listed.sum(axis=1)
    _, number = number_items(count)
    classes = index[listed]
    before = np.concatenate([[-1], classes])[:-1]
    return classes - np.where(number == 0, -1, before) - 1, count


def weigh_gaps(gaps: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many low bits are best stored as they are, the rest being unary, and the bits that all gaps take then.

    Args:
        gaps: ``(m,)`` int64, row after row.
        count: ``(n,)`` how many each row has.

    Returns:
        ``(n,)`` and ``(n,)`` int64; the smallest width of equals.
    """
    rows = np.repeat(np.arange(len(count)), count)
    bits = np.stack([(width + 1) * count + np.bincount(rows, gaps >> width, len(count)).astype(np.int64)
                     for width in range(2**GAP_BITS)])
    return bits.argmin(axis=0), bits.min(axis=0)
