"""PCG64 generators seeded as NumPy seeds them, in half the time where the caches are cold."""
from collections.abc import Sequence

import numpy as np
from numpy.random import PCG64

__all__ = ['give_back', 'seeded_pcg64', 'seeded_pcg64s']

_WORD, _LONG = 2**32 - 1, 2**128 - 1
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # of PCG64's congruential generator
_SPARE: list[PCG64] = []  # making one takes longer than seeding it


def _constants(start: int, factor: int, count: int) -> list[tuple[int, int]]:
    """What each step of the hash adds and multiplies by; they do not depend on the seed."""
    pairs = []
    for _ in range(count):
        following = start * factor & _WORD
        pairs.append((start, following))
        start = following
    return pairs


def _hash(value: int, add: int, multiply: int) -> int:
    value = (value ^ add) * multiply & _WORD
    return value ^ value >> 16


_IN = _constants(0x43B0D7E5, 0x931E8875, 16)
_OUT = _constants(0x8B51F9DD, 0x58F38DED, 8)
_FIRST, _SECOND = _IN[:2]
_PADDING = [_hash(0, *_IN[2]), _hash(0, *_IN[3])]  # a seed fills two of the four words of the pool
_MIX = [(source, [(target, *_IN[4 + 3 * source + step])
                  for step, target in enumerate(target for target in range(4) if target != source)])
        for source in range(4)]
_READ = [(i % 4, *_OUT[i]) for i in (1, 0, 3, 2, 5, 4, 7, 6)]  # the high half of each 64-bit word first


def _words(seed: int | np.ndarray) -> list:
    """The eight 32-bit words that ``SeedSequence(seed)`` gives, the most significant first; seeds may be an array."""
    pool = [_hash(seed & _WORD, *_FIRST), _hash(seed >> 32, *_SECOND), *_PADDING]
    for source, steps in _MIX:
        value = pool[source]
        for target, add, multiply in steps:
            hashed = (value ^ add) * multiply & _WORD
            mixed = pool[target] * 0xCA01F9DD - (hashed ^ hashed >> 16) * 0x4973F715 & _WORD
            pool[target] = mixed ^ mixed >> 16
    words = []
    for source, add, multiply in _READ:
        hashed = (pool[source] ^ add) * multiply & _WORD
        words.append(hashed ^ hashed >> 16)
    return words


def _generator(words: Sequence[int]) -> PCG64:
    number = 0
    for word in words:
        number = number << 32 | word
    increment = (number << 1 | 1) & _LONG
    state = (increment + (number >> 128)) * _MULTIPLIER + increment & _LONG
    try:
        generator = _SPARE.pop()
    except IndexError:
        generator = PCG64(0)
    generator.state = {'bit_generator': 'PCG64', 'state': {'state': state, 'inc': increment}, 'has_uint32': 0,
                       'uinteger': 0}
    return generator


def seeded_pcg64(seed: int) -> PCG64:
    """What ``numpy.random.PCG64(seed)`` draws; :func:`give_back` what is no longer needed.

    NumPy's ``SeedSequence`` hashes the seed; what it gives is promised to stay as it is. It passes through a dozen
    small arrays, which is slow beside an image, so the same hash stands here in plain numbers.

    Args:
        seed: In ``[0, 2**64)``.

    Source: M. E. O'Neill, "Developing a seed_seq Alternative", 2015, and "PCG: A Family of Simple Fast
    Space-Efficient Statistically Good Algorithms for Random Number Generation", 2014.
    """
    return _generator(_words(seed))


def seeded_pcg64s(seeds: Sequence[int]) -> list[PCG64]:
    """:func:`seeded_pcg64` of each, all hashed at once."""
    words = np.stack(_words(np.array(seeds, np.uint64)), axis=1)  # (n, 8)
    return [_generator(each) for each in words.tolist()]


def give_back(generator: PCG64) -> None:
    """Lets :func:`seeded_pcg64` use a generator again."""
    _SPARE.append(generator)
