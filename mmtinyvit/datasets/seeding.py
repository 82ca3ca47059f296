"""Seeds: the name of a view, turned into random numbers.

A view is named by ``(base_seed, view, key)``. :func:`derive_seed` hashes the name, with no state and no ambient
randomness, so that every machine, worker, rank and world size derives the same number. :func:`rng_scope` lends that
number to the three generators that image transforms draw from and puts back what was there before.
"""
import hashlib
import random
import struct
from functools import lru_cache

import numpy as np
import torch
from numpy.random import PCG64

from .ambient import PythonState, WaitingPair
from .pcg64 import give_back, seeded_pcg64

__all__ = ['derive_seed', 'rng_scope', 'seeded_permutation']


@lru_cache(maxsize=2)  # SeededAugment and LoadTeacherLogits ask in turn
def derive_seed(base_seed: int, view: int, key: str) -> int:
    """The seed of one augmentation of one image.

    BLAKE2b, keyed with ``(base_seed, view)`` and fed the sample's key: a counter-based generator in the sense of
    Salmon et al. (SC 2011), where nothing depends on the order of the calls.

    Args:
        base_seed: Names a family of views; the whole store has one. In ``[0, 2**64)``.
        view: Which augmentation of the image, from 0.
        key: What names the image, for example its path relative to the data root.

    Returns:
        int: A seed in ``[0, 2**63)``.
    """
    name = key.encode(errors='surrogateescape')  # a file's name need not be Unicode
    digest = hashlib.blake2b(name, digest_size=8, key=struct.pack('<QQ', base_seed, view)).digest()
    return int.from_bytes(digest, 'little') >> 1


class rng_scope:
    """Seed ``numpy.random``, ``random`` and torch's CPU generator, and restore all three on exit.

    NumPy's global functions run on a PCG64 generator inside the scope: it is seeded in microseconds where the default
    Mersenne Twister fills 624 words. The state that was there is restored also when the body raises.

    Args:
        seed: In ``[0, 2**64)``, for example from :func:`derive_seed`.
        generator: A PCG64 that was seeded with it and that nobody has drawn from, if one is there already.
    """
    __slots__ = ('_seed', '_numpy', '_ambient', '_pair', '_python', '_torch')

    def __init__(self, seed: int, generator: PCG64 | None = None) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f'A seed must be at least 0 and less than 2**64, not {seed}.')
        self._seed, self._numpy = seed, generator

    def __enter__(self) -> None:
        seed = self._seed
        self._ambient = np.random.get_bit_generator()
        self._pair = _WAITING_PAIR.save(self._ambient)
        self._python = _PYTHON.save()
        self._torch = torch.default_generator.get_state()
        if self._numpy is None:
            self._numpy = seeded_pcg64(seed)
        np.random.set_bit_generator(self._numpy)
        random.seed(seed)
        torch.default_generator.manual_seed(seed)

    def __exit__(self, *error: object) -> None:
        np.random.set_bit_generator(self._ambient)  # as it was, since nobody drew from it
        give_back(self._numpy)
        self._numpy = None
        _WAITING_PAIR.restore(self._ambient, self._pair)
        _PYTHON.restore(self._python)
        torch.default_generator.set_state(self._torch)


_WAITING_PAIR, _PYTHON = WaitingPair(), PythonState()


def seeded_permutation(size: int, seed: int) -> np.ndarray:
    """A permutation of ``range(size)`` that depends on nothing but its arguments.

    Every position gets a 64-bit hash (the SplitMix64 finaliser over ``seed + position``), and the positions are sorted
    by it. NumPy's own ``Generator.permutation`` may change between releases; this does not. Takes 16 bytes per
    element while it runs, 0.2 GB for 14 million.

    Returns:
        np.ndarray: ``(size,)`` int64.
    """
    start = int.from_bytes(hashlib.blake2b(struct.pack('<Q', seed), digest_size=8).digest(), 'little')
    z = np.arange(size, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(start)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.argsort(z, kind='stable')
