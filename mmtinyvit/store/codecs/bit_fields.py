"""Numbers of any width at any bit, many at once: lowest bit first, no gaps."""
import numpy as np

__all__ = ['fill_bits', 'number_items', 'running_sum']


def number_items(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and places of items that are listed row after row.

    Args:
        counts: ``(n,)`` how many items each row has.

    Returns:
        ``(m,)`` the row of each item, and ``(m,)`` its number within the row, from 0.
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)


def running_sum(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``(m,)``: the sum of an item and those before it in its row.

    Args:
        values: ``(m,)``, row after row.
        counts: ``(n,)`` how many each row has.
    """
    total = np.zeros(len(values) + 1, np.int64)
    values.cumsum(out=total[1:])
    return total[1:] - np.repeat(total[counts.cumsum() - counts], counts)


def fill_bits(bits: np.ndarray, rows: np.ndarray, starts: np.ndarray, values: np.ndarray, widths: np.ndarray) -> None:
    """Writes numbers into an array of single bits.

    Args:
        bits: ``(n, W)`` uint8 of zeros and ones.
        rows: ``(m,)`` the row of each number.
        starts: ``(m,)`` the column of its lowest bit.
        values: ``(m,)`` whole numbers from 0.
        widths: ``(m,)`` how many bits each takes.
    """
    for bit in range(int(widths.max(initial=0))):
        wide = widths > bit
        bits[rows[wide], starts[wide] + bit] = values[wide] >> bit & 1
