import hashlib
import random
import struct

import numpy as np
import pytest
import torch

from mmtinyvit.datasets.ambient import PythonState
from mmtinyvit.datasets.pcg64 import give_back, seeded_pcg64
from mmtinyvit.datasets.seeding import derive_seed, rng_scope, seeded_permutation

KEY = 'n01440764/n01440764_10026.JPEG'


def ambient() -> list:
    """The next numbers of the three generators."""
    return [np.random.rand(), np.random.normal(), random.random(), torch.rand(3).tolist()]


@pytest.fixture
def generators():
    """Fixed ambient state before the test, whatever was there after it."""
    np.random.seed(11)
    random.seed(12)
    torch.manual_seed(13)
    np.random.normal()  # leaves a second number waiting inside NumPy's legacy generator
    random.gauss(0, 1)
    return np.random.get_state(), random.getstate(), torch.get_rng_state()


def states_equal(before) -> bool:
    name, words, *rest = np.random.get_state()
    return (before[0][0] == name and (before[0][1] == words).all() and list(before[0][2:]) == rest
            and before[1] == random.getstate() and torch.equal(before[2], torch.get_rng_state()))


@pytest.mark.parametrize('name, seed', [
    ((0, 0, ''), 6101137009182222018),
    ((0, 0, KEY), 7296583553147106439),
    ((0, 1, KEY), 396795277729856747),
    ((1, 0, KEY), 1004996057148989183),
    ((2**64 - 1, 89, 'ünï/코드.png'), 5298528506462720277),
])
def test_derive_seed_golden(name, seed):
    assert derive_seed(*name) == seed


def test_derive_seed_is_the_hash_it_says():
    digest = hashlib.blake2b(KEY.encode(), digest_size=8, key=struct.pack('<QQ', 3, 89)).digest()
    assert derive_seed(3, 89, KEY) == struct.unpack('<Q', digest)[0] // 2


def test_a_name_that_is_not_unicode_has_a_seed():
    assert derive_seed(0, 0, b'caf\xe9.png'.decode('utf-8', 'surrogateescape')) != derive_seed(0, 0, 'café.png')


def test_names_do_not_collide():
    names = [(seed, view, f'{i}') for seed in range(3) for view in range(40) for i in range(100)]
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_scope_depends_on_the_seed_alone(generators):
    with rng_scope(1):
        first = ambient()
    np.random.seed(99)
    random.seed(99)
    torch.manual_seed(99)
    with rng_scope(1):
        again = ambient()
    with rng_scope(2):
        other = ambient()
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_scope_runs_numpy_on_pcg64():
    with rng_scope(5):
        inside = np.random.random_sample(4)
    assert (inside == np.random.RandomState(np.random.PCG64(5)).random_sample(4)).all()


def test_pcg64_is_seeded_as_numpy_does():
    dice = np.random.default_rng(0)
    seeds = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, *dice.integers(0, 2**64, 2000, np.uint64).tolist()]
    for seed in seeds:
        generator = seeded_pcg64(seed)
        assert generator.state == np.random.PCG64(seed).state
        np.random.Generator(generator).integers(9, dtype=np.uint32)  # leaves half a number behind
        give_back(generator)


@pytest.mark.parametrize('seed', [-1, 2**64])
def test_scope_refuses_what_is_no_seed(generators, seed):
    with pytest.raises(ValueError, match='at least 0 and less than'), rng_scope(seed):
        pass
    assert states_equal(generators)


@pytest.mark.parametrize('in_memory', [True, False], ids=['in memory', 'by its functions'])
def test_python_state(in_memory):
    generator, twin = random.Random(3), random.Random(3)
    state = PythonState(generator)
    assert state._memory is not None  # this Python keeps the words where they are looked for
    if not in_memory:
        state._memory = None
    for draws in (0, 1, 700):
        for either in (generator, twin):
            either.gauss(0, 1)  # leaves the second of a pair
            _ = [either.random() for _ in range(draws)]
        saved = state.save()
        generator.seed(99)
        _ = [generator.gauss(0, 1) for _ in range(1001)]
        state.restore(saved)
        assert generator.getstate() == twin.getstate()


def test_scope_restores_what_was_there(generators):
    with rng_scope(1):
        ambient()
    assert states_equal(generators)


def test_scope_restores_after_an_exception(generators):
    with pytest.raises(ZeroDivisionError), rng_scope(1):
        ambient()
        raise ZeroDivisionError
    assert states_equal(generators)


def test_scopes_in_turn_with_gaussian_pairs():
    """A number of a pair survives each scope, whether it was drawn before the first or between two."""
    np.random.seed(11)
    undisturbed = np.random.normal(size=7).tolist()
    np.random.seed(11)
    numbers = []
    for count in (1, 0, 1, 1, 0, 0, 2, 1, 1):  # odd ones leave a number waiting
        numbers += [np.random.normal() for _ in range(count)]
        with rng_scope(1):
            ambient()
    assert numbers == undisturbed


def test_scope_notices_another_generator():
    seeded = np.random.RandomState(np.random.PCG64(3))
    before = np.random.get_bit_generator()
    try:
        with rng_scope(1):
            ambient()
        np.random.set_bit_generator(np.random.PCG64(3))
        numbers = [np.random.normal()]
        with rng_scope(1):
            ambient()
        assert [*numbers, np.random.normal()] == seeded.normal(size=2).tolist()
    finally:
        np.random.set_bit_generator(before)


def test_scopes_nest(generators):
    with rng_scope(1):
        whole = [ambient(), ambient()]
    with rng_scope(1):
        first = ambient()
        with rng_scope(2):
            ambient()
        assert [first, ambient()] == whole
    assert states_equal(generators)


def test_scope_ignores_reseeding_inside(generators):
    with rng_scope(1):
        random.seed(0)
        torch.manual_seed(0)
    assert states_equal(generators)


def test_permutation_golden():
    assert seeded_permutation(10, 0).tolist() == [0, 3, 6, 7, 2, 4, 9, 1, 8, 5]
    assert seeded_permutation(7, 2**63 - 1).tolist() == [3, 4, 2, 5, 6, 0, 1]
    assert hashlib.sha256(seeded_permutation(100_000, 5).astype('<i8')).hexdigest()[:16] == '1d1686f83e1892d4'


def test_permutation_against_splitmix64():
    def finalise(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    start = int.from_bytes(hashlib.blake2b(struct.pack('<Q', 42), digest_size=8).digest(), 'little')
    hashes = [finalise((start + i * 0x9E3779B97F4A7C15) % 2**64) for i in range(500)]
    assert seeded_permutation(500, 42).tolist() == sorted(range(500), key=hashes.__getitem__)


@pytest.mark.parametrize('size', [0, 1, 2, 1000])
def test_permutation_permutes(size):
    assert sorted(seeded_permutation(size, 9).tolist()) == list(range(size))
