import random

import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from tiny_flow import digest, photo_dataset
from torch.utils.data import DataLoader

from mmtinyvit.datasets import RepeatAugSampler, RepeatedViews, ViewDataset, set_view
from mmtinyvit.errors import UserError


def sampler_of(dataset, rank: int, world_size: int, monkeypatch, **settings) -> RepeatAugSampler:
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world_size))
    return RepeatAugSampler(dataset, seed=5, **settings)


def naive(num: int, rank: int, world_size: int, repeats: int, epoch: int) -> list[int]:
    """The original's rule, step by step."""
    order = torch.randperm(num, generator=torch.Generator().manual_seed(5 + epoch)).tolist()
    copies = [i for i in order for _ in range(repeats)]
    while len(copies) % world_size:
        copies.append(copies[len(copies) - num * repeats])
    return copies[rank::world_size][:int(num // 256 * 256 / world_size)]


@pytest.mark.parametrize('num', [256, 700, 1281])
@pytest.mark.parametrize('world_size', [2, 3, 8])
@pytest.mark.parametrize('repeats', [3, 2])
def test_several_processes_follow_the_original(num, world_size, repeats, monkeypatch):
    for rank in range(world_size):
        sampler = sampler_of(range(num), rank, world_size, monkeypatch, num_repeats=repeats)
        for epoch in (0, 4):
            sampler.set_epoch(epoch)
            assert list(sampler) == naive(num, rank, world_size, repeats, epoch)
        assert len(list(sampler)) == len(sampler)


def test_the_images_of_a_step_are_the_same_for_any_number_of_processes(monkeypatch):
    steps = {}
    for world_size in (1, 2, 4, 8):
        ranks = [list(sampler_of(range(1024), rank, world_size, monkeypatch, repeat_when_alone=True))
                 for rank in range(world_size)]
        size = 96 // world_size
        steps[world_size] = [sorted(i for mine in ranks for i in mine[k * size:(k + 1) * size]) for k in range(10)]
    assert steps[1] == steps[2] == steps[4] == steps[8]
    assert all(len(set(step)) == 32 and step[::3] == step[1::3] == step[2::3] for step in steps[1])


def test_copies_of_an_image_go_to_different_processes(monkeypatch):
    ranks = [list(sampler_of(range(1024), rank, 4, monkeypatch)) for rank in range(4)]
    for step in zip(*ranks, strict=True):
        assert len(set(step)) == 2  # four places hold a whole triple and one more, or two parts of triples
    assert all(len(set(mine)) == len(mine) for mine in ranks)


def test_one_process_reads_every_image_once_as_the_original(monkeypatch):
    sampler = sampler_of(range(700), 0, 1, monkeypatch)
    first = list(sampler)
    assert sorted(first) == list(range(700)) and len(sampler) == 700
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(first) and list(sampler) != first


def test_one_process_repeats_if_asked_to(monkeypatch):
    found = list(sampler_of(range(700), 0, 1, monkeypatch, repeat_when_alone=True))
    assert len(found) == 512 and len(set(found)) == 171
    assert found[0::3][:170] == found[1::3][:170] == found[2::3][:170]


@pytest.mark.parametrize('num, world_size', [(6, 1), (6, 2), (1, 2), (255, 4)])
def test_a_small_dataset_is_not_rounded_to_nothing(num, world_size, monkeypatch):
    found = [list(sampler_of(range(num), rank, world_size, monkeypatch)) for rank in range(world_size)]
    assert {len(mine) for mine in found} == {max(num // world_size, 1)}
    assert all(0 <= i < num for mine in found for i in mine)


def test_wrong_settings(monkeypatch):
    with pytest.raises(UserError, match='num_repeats=0'):
        sampler_of(range(9), 0, 1, monkeypatch, num_repeats=0)


# ---------------------------------------------------------------- with replayed views
@pytest.fixture(scope='module')
def views(photos):
    init_default_scope('mmpretrain')
    return RepeatedViews(photo_dataset(photos), num_repeats=3)


def test_equal_copies_are_refused(photos, monkeypatch):
    init_default_scope('mmpretrain')
    plain = DATASETS.build(photo_dataset(photos))
    with pytest.raises(UserError, match='the very same pixels'):
        sampler_of(plain, 0, 2, monkeypatch)
    assert sorted(sampler_of(plain, 0, 1, monkeypatch)) == list(range(14))  # no copies


def test_every_copy_has_a_view_of_its_own(views, photos, monkeypatch):
    """Two processes and two epochs: 28 triples of (key, view, pixels), each the replay of its name."""
    monkeypatch.setattr('mmtinyvit.datasets.repeated.ROUNDED_TO', 1)
    reference = ViewDataset(DATASETS.build(photo_dataset(photos)))
    where = {reference[0, i]['data_samples'].sample_key: i for i in range(14)}
    seen = []
    for epoch in range(2):
        assert set_view(views, epoch) == 1
        for rank in range(2):
            sampler = sampler_of(views, rank, 2, monkeypatch)
            sampler.set_epoch(epoch)
            for item in (views[i] for i in sampler):
                sample = item['data_samples']
                assert sample.view // 3 == epoch
                assert torch.equal(item['inputs'], reference[sample.view, where[sample.sample_key]]['inputs'])
                seen.append((sample.sample_key, sample.view, digest(item['inputs'])))
    assert len(seen) == 28 and len(set(seen)) == 28 and len({pixels for _, _, pixels in seen}) == 28
    copies = [sum(key == k and view // 3 == 0 for k, view, _ in seen) for key in where]
    assert sorted(copies, reverse=True) == [3, 3, 3, 3, 2] + [0] * 9


def test_running_workers_hear_of_the_next_epoch(views):
    loader = DataLoader(views, batch_size=None, sampler=[0, 14, 28], num_workers=1, persistent_workers=True)
    for epoch in (0, 3):
        set_view(views, epoch)
        assert [item['data_samples'].view for item in loader] == [3 * epoch, 3 * epoch + 1, 3 * epoch + 2]


def test_index_and_length(views):
    set_view(views, 1)
    assert len(views) == 42 and views.num_images == 14 and views.metainfo == views.dataset.metainfo
    for index in random.Random(0).sample(range(42), 5):
        sample = views[index]['data_samples']
        assert sample.view == 3 + index // 14 and sample.img_path == views[index % 14]['data_samples'].img_path


def test_more_copies_than_views_are_refused(views, monkeypatch):
    with pytest.raises(UserError, match='RepeatedViews has 3 views'):
        sampler_of(views, 0, 2, monkeypatch, num_repeats=4)


def test_views_need_seeded_augment():
    with pytest.raises(UserError, match='one mmtinyvit.SeededAugment'):
        RepeatedViews(range(3))
