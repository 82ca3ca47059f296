"""Partners, coefficients and boxes belong to the view's name; the sampler keeps partners together."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, Dataset

from mmtinyvit.datasets import PairedSampler, SeededAugment, draw_mix, partners_of_view, set_view
from mmtinyvit.datasets.mixing import pairs_of_view
from mmtinyvit.errors import UserError

BOTH = dict(mixup_alpha=0.8, cutmix_alpha=1., switch_prob=0.5)


@pytest.mark.parametrize('num', [1, 2, 3, 10, 101])
def test_partners_are_an_involution(num):
    partners = partners_of_view(num, 3, 5)
    assert sorted(partners.tolist()) == list(range(num))
    assert (partners[partners] == np.arange(num)).all()
    assert (partners == np.arange(num)).sum() == num % 2


def test_pairs_golden():
    assert pairs_of_view(9, 3, 0).tolist() == [[5, 7], [2, 3], [4, 8], [1, 0], [6, 6]]
    assert partners_of_view(9, 3, 1).tolist() == [5, 6, 7, 8, 4, 0, 1, 2, 3]


def test_partners_change_with_view_and_seed():
    each = [partners_of_view(100, seed, view).tolist() for seed in (0, 1) for view in (0, 1)]
    assert all(a != b for i, a in enumerate(each) for b in each[:i])


@pytest.mark.parametrize('key, keep, box', [
    ('bc', 0.49283854166666663, (13, 32, 0, 41)),
    ('bd', 0.31882063511652, None),
    ('be', 0.923828125, (19, 28, 4, 17)),
    ('bf', 0.8746383555411971, None),
])
def test_mix_golden(key, keep, box):
    mix = draw_mix('a', key, 0, 0, 32, 48, **BOTH)
    assert mix.box == box and mix.keep == pytest.approx(keep, abs=1e-12)
    assert draw_mix(key, 'a', 0, 0, 32, 48, **BOTH) == mix


def draw_many(num: int = 2000, **alphas) -> list:
    return [draw_mix('a', f'{i}', 1, 0, 32, 48, **BOTH | alphas) for i in range(num)]


def test_cutmix_keeps_the_share_outside_the_box():
    mixes = [mix for mix in draw_many(mixup_alpha=0) if mix.box]
    assert len(mixes) == 2000
    for mix in mixes:
        top, bottom, left, right = mix.box
        inside = np.zeros((32, 48), bool)
        inside[top:bottom, left:right] = True
        assert mix.keep == pytest.approx(1 - inside.mean(), abs=1e-12)


def test_draws_follow_their_distributions():
    """Means of Beta(a, a) and their variances, 1 / (4 (2a + 1)), and the share of CutMix."""
    mixup = np.array([mix.keep for mix in draw_many(cutmix_alpha=0)])
    assert all(mix.box is None for mix in draw_many(10, cutmix_alpha=0))
    assert mixup.mean() == pytest.approx(0.5, abs=0.03) and mixup.var() == pytest.approx(1 / (4 * 2.6), rel=0.06)
    share = np.mean([mix.box is not None for mix in draw_many(switch_prob=0.3)])
    assert share == pytest.approx(0.3, abs=0.04)


def test_no_mixing_at_all():
    assert draw_mix('a', 'b', 0, 0, 8, 8, mixup_alpha=0, cutmix_alpha=0, switch_prob=0.5) == (1., None)


# ---------------------------------------------------------------- the sampler
class Views(Dataset):
    """``num`` samples whose augmentation has a base seed."""

    def __init__(self, num: int, view: int | None = None, base_seed: int = 3) -> None:
        self.num = num
        self.pipeline = SimpleNamespace(transforms=[SeededAugment([], base_seed=base_seed, view=view)])

    def __len__(self) -> int:
        return self.num


def sampler_of(num: int, rank: int = 0, world_size: int = 1, monkeypatch=None, view: int | None = 4,
               **kwargs) -> PairedSampler:
    if monkeypatch:
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world_size))
    return PairedSampler(Views(num, view), seed=0, **kwargs)


def pairs_in(indices: list[int]) -> list[tuple[int, int]]:
    assert len(indices) % 2 == 0
    return list(zip(indices[::2], indices[1::2], strict=True))


@pytest.mark.parametrize('num', [1, 12, 13])
@pytest.mark.parametrize('world_size', [1, 3])
def test_neighbours_are_partners_whatever_the_batch_and_the_world(num, world_size, monkeypatch):
    partners = partners_of_view(num, 3, 4)
    seen = []
    for rank in range(world_size):
        sampler = sampler_of(num, rank, world_size, monkeypatch)
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
    sampler = sampler_of(40, view=None)
    set_view(sampler.dataset, 0)
    first = pairs_in(list(sampler))
    sampler.set_epoch(1)
    second = pairs_in(list(sampler))
    assert first != second and set(first) == set(second)
    set_view(sampler.dataset, 1)
    assert set(map(frozenset, pairs_in(list(sampler)))) != set(map(frozenset, first))


def test_without_shuffling_the_order_is_that_of_the_pairs():
    sampler = sampler_of(10, shuffle=False)
    first = list(sampler)
    sampler.set_epoch(5)
    assert list(sampler) == first


def test_a_view_that_nobody_set_says_who_should():
    with pytest.raises(UserError, match='does not know which view.*EpochClockHook'):
        iter(sampler_of(20, view=None))


def test_base_seed_is_that_of_the_augmentation():
    for base_seed in (None, 3):
        sampler = sampler_of(9, base_seed=base_seed, shuffle=False)
        assert pairs_in(list(sampler)) == list(map(tuple, pairs_of_view(9, 3, 4).tolist()))
    with pytest.raises(UserError, match='base_seed=8 of PairedSampler is not the 3 of SeededAugment: remove it'):
        sampler_of(9, base_seed=8)


@pytest.mark.parametrize(('dataset', 'message'), [
    (range(4), '0 SeededAugment transforms where exactly one is needed'),
    (ConcatDataset([Views(2), Views(2)]), 'ConcatDataset joins datasets that have a pipeline each'),
], ids=['none', 'two'])
def test_exactly_one_augmentation(dataset, message):
    with pytest.raises(UserError, match=message):
        PairedSampler(dataset)


def test_iterating_leaves_the_ambient_generator_alone():
    before = torch.get_rng_state()
    list(sampler_of(20))
    assert torch.equal(torch.get_rng_state(), before)
