"""Class gaps and levels in Rice codes, which are short for small numbers, and their bits; many records at once.

A Rice code of order k stores the lowest k bits of a number as they are, and the rest in unary: so many zeros and a one.
"""
import numpy as np

__all__ = [
    'CODE_BITS', 'FLOOR_BITS', 'GAP_BITS', 'MAX_EXTRA', 'RICE_CODES', 'choose_code', 'class_gaps', 'fill_bits',
    'number_items', 'running_sum', 'split_levels', 'weigh_gaps'
]

GAP_BITS = 4  # of the field that holds how many low bits of each gap are stored as they are
FLOOR_BITS = 4  # of the field that holds what is taken off all levels
CODE_BITS = 3  # of the field that holds the code of the levels
RICE_CODES = 4  # codes 0 to 3: Rice codes of that many extra bits; 4 to 7: exponential Golomb codes of order 0 to 3
MAX_EXTRA = 16


# ---------------------------------------------------------------- classes
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


# ---------------------------------------------------------------- levels
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


# ---------------------------------------------------------------- bits
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
