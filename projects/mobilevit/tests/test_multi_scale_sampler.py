"""The multi-scale batches: the same for any number of workers and processes, in every run and after resuming."""
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from processes import in_ranks, train_in_turn
from tiny_flow import NORM, digest, recorded, runtime, student

from mmtinyvit.datasets import set_view
from mmtinyvit.errors import UserError
from projects.mobilevit.mobilevit import MultiScaleBatchSampler

SIDES = (160, 192, 256, 288, 320)


def sampler_of(num: int, rank: int = 0, world_size: int = 1, monkeypatch=None, batch_size: int = 64, epoch: int = 0,
               **settings) -> MultiScaleBatchSampler:
    if monkeypatch:
        for module in ('mmengine.dataset.sampler', 'projects.mobilevit.mobilevit.multi_scale_sampler'):
            monkeypatch.setattr(f'{module}.get_dist_info', lambda: (rank, world_size))
    sampler = DefaultSampler(range(num), seed=3)
    sampler.set_epoch(epoch)
    return MultiScaleBatchSampler(sampler, batch_size, **settings)


@pytest.mark.parametrize('num', [10, 999, 10_000])
def test_every_image_comes_once_and_a_few_twice(num):
    for epoch in (0, 1):
        sampler = sampler_of(num, epoch=epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        counts = Counter(index for batch in batches for index, _ in batch)
        assert set(counts) == set(range(num))
        assert sum(counts.values()) - num < 64 * 256**2 // 160**2


def test_about_as_many_pixels_in_every_batch():
    sampler = sampler_of(50_000)
    for batch in sampler:
        (side, ), pixels = {side for _, side in batch}, sum(side**2 for _, side in batch)
        assert len(batch) % 8 == 0 and len(batch) == 64 * 256**2 // side**2 // 8 * 8
        assert .8 * 64 * 256**2 < pixels <= 64 * 256**2
    found = Counter(batch[0][1] for batch in sampler)
    assert max(found.values()) - min(found.values()) <= 1 and set(found) == set(SIDES)


def test_epochs_differ_in_order_and_not_in_length():
    found = [[batch[0][1] for batch in sampler_of(20_000, epoch=epoch)] for epoch in (0, 1, 0)]
    assert found[0] == found[2] != found[1] and sorted(found[0]) == sorted(found[1])
    assert found[0] != [batch[0][1] for batch in sampler_of(20_000, base_seed=1)]


@pytest.mark.parametrize('epoch', [0, 5])
def test_a_step_is_the_same_for_any_number_of_processes(epoch, monkeypatch):
    steps = {}
    for world_size in (1, 2, 4, 8):
        ranks = [list(sampler_of(4_000, rank, world_size, monkeypatch, 64 // world_size, epoch))
                 for rank in range(world_size)]
        steps[world_size] = [sorted(item for batch in step for item in batch) for step in zip(*ranks, strict=True)]
        assert all(len({len(batch) for batch in step}) == 1 for step in zip(*ranks, strict=True))
    assert steps[1] == steps[2] == steps[4] == steps[8]


def test_what_cannot_be_shared_is_refused(monkeypatch):
    with pytest.raises(UserError, match='3 processes cannot share steps of multiples of 8'):
        sampler_of(100, 0, 3, monkeypatch)
    assert sampler_of(100, 0, 3, monkeypatch, multiple_of=12).images[256] % 4 == 0
    monkeypatch.undo()
    with pytest.raises(UserError, match='knows its epoch'):
        MultiScaleBatchSampler(InfiniteSampler(range(10), seed=0), 4)


# ---------------------------------------------------------------- with real files
def loader_config(root, workers: int = 0) -> dict:
    replay = dict(type='mmtinyvit.SeededAugment', base_seed=7, key_root=str(root), transforms=[
        dict(type='mmtinyvit.SizedRandomResizedCrop', scale=32, crop_ratio_range=(.3, 1.)),
        dict(type='RandomFlip', prob=.5)])
    pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
    return dict(
        batch_size=4, num_workers=workers, persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'),
        batch_sampler=dict(type='mmtinyvit.MultiScaleBatchSampler', sides=(16, 32, 48), base_side=32, multiple_of=2),
        dataset=dict(type='mmtinyvit.SizedViews', dataset=dict(
            type='CustomDataset', data_prefix=str(root), pipeline=pipeline)))


def test_pixels_do_not_depend_on_workers(photos_here):
    init_default_scope('mmpretrain')
    found = []
    for workers in (0, 2):
        loader = Runner.build_dataloader(loader_config(photos_here, workers), seed=0)
        epochs = []
        for epoch in (0, 1):
            set_view(loader.dataset, epoch)
            loader.batch_sampler.sampler.set_epoch(epoch)
            epochs.append([(tuple(batch['inputs'].shape), [digest(image) for image in batch['inputs']])
                           for batch in loader])
        found.append(epochs)
    assert found[0] == found[1] and found[0][0] != found[0][1]
    assert {shape[2] for epoch in found[0] for shape, _ in epoch} == {16, 32, 48}


def test_the_part_that_is_cut_out_does_not_depend_on_the_side(photos_here):
    init_default_scope('mmpretrain')
    dataset = Runner.build_dataloader(loader_config(photos_here), seed=0).dataset
    set_view(dataset, 0)
    small, large, usual = (dataset[name]['inputs'].float() for name in ((5, 16), (5, 32), 5))
    assert torch.equal(large, usual) and small.shape == (3, 16, 16)
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert np.corrcoef(shrunk.flatten(), small.flatten())[0, 1] > .98


def training(root, work: Path, epochs: int, batch_size: int = 4, workers: int = 0, **more) -> Config:
    return Config(runtime(work) | dict(
        custom_imports=dict(imports=['tiny_flow', 'projects.mobilevit.mobilevit']),
        model=dict(student(num_classes=3), type='ImageClassifier'), data_preprocessor=dict(NORM),
        train_dataloader=loader_config(root, workers) | dict(batch_size=batch_size),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
        auto_scale_lr=dict(enable=True, base_batch_size=8), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), dict(type='RecordInputs'), dict(type='RecordLosses')],
        experiment_name=f'{work.name}_{epochs}') | more, format_python_code=False)


def test_training_goes_on_after_a_stop_as_if_there_were_none(photos_here, tmp_path):
    for name, epochs, more in (('through', 3, {}), ('stopped', 1, {}), ('stopped', 3, dict(resume=True, workers=1))):
        runner = Runner.from_cfg(training(photos_here, tmp_path / name, epochs, **more))
        runner.train()
        assert runner.optim_wrapper.get_lr()['lr'] == [.005]
    for name in ('inputs_0.jsonl', 'losses_0.txt'):
        assert (tmp_path / 'through' / name).read_text() == (tmp_path / 'stopped' / name).read_text()


def test_two_processes_train_on_the_images_of_one(photos_here, tmp_path):
    Runner.from_cfg(training(photos_here, tmp_path / 'one', 2)).train()
    in_ranks(train_in_turn, [training(photos_here, tmp_path / 'two', 2, batch_size=2)])
    assert sorted(recorded(tmp_path / 'one')) == sorted(recorded(tmp_path / 'two'))
    assert len((tmp_path / 'one/losses_0.txt').read_text().split()) == len(
        (tmp_path / 'two/losses_1.txt').read_text().split())
