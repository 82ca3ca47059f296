"""Loops over single bits, compiled by Numba when they are first called."""
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ['compiled', 'find_ones', 'num_words', 'read_number', 'read_only']


def compiled(function: Callable) -> Callable:
    """Compiles ``function``, once per machine where a folder for the result can be written, else once per process.

    It releases the interpreter's lock. Indices are not checked: it is the caller who keeps them within the arrays.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return njit(nogil=True)(function)


def read_only(records: np.ndarray) -> np.ndarray:
    """The same numbers in an array of one kind: for every other kind a loop would be compiled again."""
    records = np.ascontiguousarray(records).view()
    records.flags.writeable = False
    return records


@compiled
def num_words(num_bytes: int) -> int:
    """How many 64-bit words a string of bytes takes, with those behind it that are only looked at."""
    return num_bytes // 8 + 2


@compiled
def read_number(words: np.ndarray, at: int, width: int) -> int:
    """The number in ``width`` bits, up to 63, from the bit ``at`` on."""
    word, shift = np.uint64(at) >> np.uint64(6), np.uint64(at) & np.uint64(63)
    window = words[word] >> shift
    window |= (words[word + np.uint64(1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return np.int64(window & np.uint64((1 << width) - 1))


@intrinsic
def _trailing_zeros(_, number):
    """How many bits below the lowest set one are not; of zero, anything."""
    def code(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


@compiled
def find_ones(words: np.ndarray, at: int, end: int, places: np.ndarray, most: int) -> int:
    """Which bits are set, from ``at`` to ``end`` - 1: the first ``most`` of them, into ``places``.

    Returns:
        How many there are, or ``most`` if there are more.
    """
    if at >= end:
        return 0
    word = at >> 6
    window = words[np.uint64(word)] >> np.uint64(at & 63) << np.uint64(at & 63)
    for num in range(most):
        while window == 0:
            word += 1
            if word << 6 >= end:
                return num
            window = words[np.uint64(word)]
        place = (word << 6) + np.int64(_trailing_zeros(window))
        if place >= end:
            return num
        places[num] = place
        window &= window - np.uint64(1)
    return most
