import pytest
import torch
from torch.utils.data import BatchSampler

from mmtinyvit.datasets import PairedSampler, partners_of_view


def sampler_of(num: int, rank: int = 0, world_size: int = 1, monkeypatch=None, **kwargs) -> PairedSampler:
    if monkeypatch:
        monkeypatch.setattr('mmtinyvit.datasets.paired_sampler.get_dist_info', lambda: (rank, world_size))
    return PairedSampler(range(num), base_seed=3, seed=0, **kwargs)


def pairs_in(indices: list[int]) -> list[tuple[int, int]]:
    assert len(indices) % 2 == 0
    return list(zip(indices[::2], indices[1::2], strict=True))


@pytest.mark.parametrize('num', [1, 12, 13])
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_neighbours_are_partners_whatever_the_batch_and_the_world(num, world_size, monkeypatch):
    partners = partners_of_view(num, 3, 4)
    seen = []
    for rank in range(world_size):
        sampler = sampler_of(num, rank, world_size, monkeypatch)
        sampler.view = 4
        indices = list(sampler)
        assert len(indices) == len(sampler)
        for batch_size in (2, 4, 6):
            for batch in BatchSampler(sampler, batch_size, drop_last=False):
                assert all(partners[a] == b for a, b in pairs_in(batch))
        seen.append(pairs_in(indices))
    assert len({len(mine) for mine in seen}) == 1  # every process does as many steps
    flat = [pair for mine in seen for pair in mine]
    assert {i for pair in flat for i in pair} == set(range(num))
    repeats = len(flat) - len(set(flat))
    assert repeats == -(-((num + 1) // 2) // world_size) * world_size - (num + 1) // 2


def test_order_changes_with_the_epoch_and_pairs_with_the_view():
    sampler = sampler_of(40)
    sampler.view = 0
    first = pairs_in(list(sampler))
    sampler.set_epoch(1)
    second = pairs_in(list(sampler))
    assert first != second and set(first) == set(second)
    sampler.view = 1
    assert set(map(frozenset, pairs_in(list(sampler)))) != set(map(frozenset, first))


def test_without_shuffling_the_order_is_that_of_the_pairs():
    sampler = sampler_of(10, shuffle=False)
    sampler.view = 2
    first = list(sampler)
    sampler.set_epoch(5)
    assert list(sampler) == first


def test_without_a_hook_the_epoch_is_the_view():
    sampler = sampler_of(20)
    sampler.set_epoch(3)
    partners = partners_of_view(20, 3, 3)
    assert all(partners[a] == b for a, b in pairs_in(list(sampler)))


def test_iterating_leaves_the_ambient_generator_alone():
    before = torch.get_rng_state()
    list(sampler_of(20))
    assert torch.equal(torch.get_rng_state(), before)
