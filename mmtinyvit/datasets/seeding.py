"""Seeds: the name of a view, turned into random numbers.

A view is named by ``(base_seed, view, key)``. :func:`derive_seed` hashes the name, with no state and no ambient
randomness, so that every machine, worker, rank and world size derives the same number. :func:`rng_scope` lends that
number to the three generators that image transforms draw from and puts back what was there before.
"""
import ctypes
import hashlib
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import MT19937, BitGenerator

__all__ = ['derive_seed', 'rng_scope', 'seeded_permutation']


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


@contextmanager
def rng_scope(seed: int) -> Iterator[None]:
    """Seed ``numpy.random``, ``random`` and torch's CPU generator, and restore all three on exit.

    NumPy's global functions run on a PCG64 generator inside the scope: it is seeded in microseconds where the default
    Mersenne Twister fills 624 words. The state that was there is restored also when the body raises.

    Args:
        seed: In ``[0, 2**64)``, for example from :func:`derive_seed`.
    """
    ambient, pair = np.random.get_bit_generator(), _waiting_pair()
    python_state = random.getstate()
    torch_state = torch.default_generator.get_state()
    np.random.set_bit_generator(np.random.PCG64(seed))
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_bit_generator(ambient)  # as it was, since nobody drew from it
        _restore_pair(pair)
        random.setstate(python_state)
        torch.default_generator.set_state(torch_state)


# NumPy's legacy generator makes Gaussian numbers in pairs and drops the second one when its bit generator is changed.
# Only `get_state` shows whether one waits, and for a Mersenne Twister it takes longer than all the rest of a scope. So
# each scope notes how it leaves the Twister with none waiting: where nobody drew since, none waits still.
_WORDS = 624
_STATE_BYTES = 4 * (_WORDS + 1)  # the words, and the position in them
_left: tuple[BitGenerator, bytes] | None = None


def _twister() -> tuple[BitGenerator, bytes] | None:
    """The ambient generator and its state's bytes, if it is a Mersenne Twister."""
    generator = np.random.get_bit_generator()
    if type(generator) is not MT19937:
        return None
    return generator, ctypes.string_at(generator.ctypes.state_address, _STATE_BYTES)


def _waiting_pair() -> dict | None:
    """The ambient state, if the second number of a pair waits in it."""
    now = _twister()
    if now is not None and _left is not None and now[0] is _left[0] and now[1] == _left[1]:
        return None
    state = np.random.get_state(legacy=False)
    return state if state['has_gauss'] else None


def _restore_pair(state: dict | None) -> None:
    global _left
    _left = None
    if state is None:
        _left = _twister()
    else:
        np.random.set_state(state)


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
