import hashlib
import random
import struct

import numpy as np
import pytest
import torch

from mmtinyvit.datasets.seeding import ViewName, derive_seed, rng_scope, seeded_permutation

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


def test_a_name_knows_its_seed():
    assert ViewName(3, 89, KEY).seed == derive_seed(3, 89, KEY) and ViewName(3, 89, KEY) == (3, 89, KEY)


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


@pytest.mark.parametrize('seed', [0, 5, 2**32 - 1, 2**32, 2**64 - 1])
def test_scope_draws_what_each_library_draws_with_the_seed(seed):
    numpy, python = np.random.RandomState(np.random.PCG64(seed)), random.Random(seed)
    expected = [numpy.rand(), numpy.normal(), python.random(),
                torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()]
    with rng_scope(seed):
        assert ambient() == expected


@pytest.mark.parametrize('seed', [-1, 2**64])
def test_scope_refuses_what_is_no_seed(generators, seed):
    with pytest.raises(ValueError, match='at least 0 and less than'), rng_scope(seed):
        pass
    assert states_equal(generators)


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


def test_scope_restores_another_bit_generator():
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
