"""Saving and distilling with the datasets and wrappers of others: they work, or one sentence says what to use."""
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from tiny_flow import contents, distilling, photo_dataset, recorded, saving, student, view_pipeline
from torch.utils.data import DataLoader, Subset

from mmtinyvit.datasets.identity import iter_keys
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.datasets.load_teacher_logits import TEACHER_KEYS
from mmtinyvit.datasets.view_dataset import ViewDataset, read_in_batches
from mmtinyvit.datasets.views import set_view
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

REPEATED = dict(type='RepeatDataset', times=2)
BALANCED = dict(type='ClassBalancedDataset', oversample_thr=.4)  # 5, 5 and 4 of 14 photos


def folders(photos, store=None) -> dict:
    return photo_dataset(photos, store)


def listed(photos, store=None) -> dict:
    """mmpretrain's own dataset, whose samples have no names, with a list of files."""
    return dict(type='mmpretrain.CustomDataset', data_prefix=str(photos), ann_file=str(photos.parent / 'list.txt'),
                metainfo=dict(classes=['class_0', 'class_1', 'class_2']), pipeline=view_pipeline(photos, store))


def indexed(photos, store=None) -> dict:
    return dict(type='mmtinyvit.IndexedImages', data_root=str(photos), ann_file=str(photos.parent / 'photos.index'),
                pipeline=view_pipeline(photos, store))


@pytest.fixture(scope='module', autouse=True)
def lists(photos):
    files = sorted(photos.rglob('*.png'))
    lines = (f'{path.relative_to(photos).as_posix()} {path.parent.name[-1]}\n' for path in files)
    (photos.parent / 'list.txt').write_text(''.join(lines))
    index_images(photos, photos.parent / 'photos.index', workers=1)


def training(dataset: dict, photos, store, work_dir, **changes) -> Config:
    cfg = distilling(photos, store, work_dir, epochs=1, **changes)
    cfg.train_dataloader.dataset = dataset
    return cfg


def save(dataset: dict, tmp_path, photos, checkpoint) -> None:
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', checkpoint)
    cfg.test_dataloader.dataset = dataset
    Runner.from_cfg(cfg).test()


@pytest.mark.parametrize('make', [listed, indexed])
def test_other_datasets_of_the_same_files(make, tmp_path, photos, saved_store, teacher_checkpoint):
    save(make(photos), tmp_path, photos, teacher_checkpoint)
    assert contents(tmp_path / 'store') == contents(saved_store)
    Runner.from_cfg(training(make(photos, saved_store), photos, saved_store, tmp_path / 'train')).train()
    assert len(recorded(tmp_path / 'train')) == 14


@pytest.mark.parametrize('make', [folders, listed, indexed])
@pytest.mark.parametrize('wrapper', [REPEATED, BALANCED], ids=['repeat', 'balanced'])
def test_images_that_come_several_times(make, wrapper, tmp_path, photos, saved_store, teacher_checkpoint):
    """A training sees the same view so often; a store has it once."""
    dataset = dict(wrapper, dataset=make(photos, saved_store))
    Runner.from_cfg(training(dataset, photos, saved_store, tmp_path)).train()
    seen = Counter(key for *_, key, _ in recorded(tmp_path))
    built = DATASETS.build(dataset)
    assert seen == Counter(iter_keys(built, str(photos))) and len(seen) == 14 < seen.total() == len(built)
    with pytest.raises(UserError, match=f'{wrapper["type"]} repeats or leaves out images of the dataset inside it'):
        save(dict(wrapper, dataset=make(photos)), tmp_path, photos, teacher_checkpoint)


@pytest.mark.parametrize('make', [folders, listed, indexed])
@pytest.mark.parametrize('wrappers', [[], [REPEATED], [BALANCED], [BALANCED, REPEATED]],
                         ids=['plain', 'repeated', 'balanced', 'both'])
def test_records_come_by_the_batch(make, wrappers, photos, saved_store, monkeypatch):
    config = make(photos, saved_store)
    for each in wrappers:
        config = dict(each, dataset=config)
    dataset = DATASETS.build(config)
    set_view(dataset, 1)
    indices = [0, 13, len(dataset) - 1, 0]
    expected = [dataset[index] for index in indices]
    read_in_batches(dataset)
    asked = []
    read = LogitStore.read
    monkeypatch.setattr(LogitStore, 'read', lambda self, view, keys, *more: asked.append(len(keys)) or read(
        self, view, keys, *more))
    found = next(iter(DataLoader(dataset, batch_sampler=[indices], collate_fn=list)))
    assert asked == [4]
    for sample, same in zip(found, expected, strict=True):
        assert torch.equal(sample['inputs'], same['inputs'])
        for name in TEACHER_KEYS[:2]:
            assert np.array_equal(sample['data_samples'].get(name), same['data_samples'].get(name))


def test_a_dataset_with_a_way_of_its_own_keeps_it(photos, saved_store):
    class Own(CustomDataset):
        def prepare_data(self, idx):
            return dict(super().prepare_data(idx), own=True)

    config = listed(photos, saved_store)
    config.pop('type')
    dataset = Own(**config)
    set_view(dataset, 1)
    read_in_batches(dataset)
    assert all(sample['own'] for sample in next(iter(DataLoader(dataset, 2, collate_fn=list))))


def test_joined_datasets(tmp_path, photos, saved_store, teacher_checkpoint):
    message = 'ConcatDataset joins datasets .*list them in one index with "mmtinyvit index"'
    both = dict(type='ConcatDataset', datasets=[folders(photos, saved_store), folders(photos, saved_store)])
    for dataset in (both, dict(REPEATED, dataset=both)):
        with pytest.raises(UserError, match=message):
            Runner.from_cfg(training(dataset, photos, saved_store, tmp_path)).train()
    with pytest.raises(UserError, match=message):
        save(dict(type='ConcatDataset', datasets=[folders(photos)]), tmp_path, photos, teacher_checkpoint)


def test_a_torch_subset(photos):
    subset = Subset(DATASETS.build(folders(photos)), [1, 2])
    for use in (ViewDataset, lambda dataset: list(iter_keys(dataset, str(photos)))):
        with pytest.raises(UserError, match='Subset hides the names of its samples: choose them with indices='):
            use(subset)


def test_repeats_of_a_mixed_store(tmp_path, photos, teacher_checkpoint):
    mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.)
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, mixing=mixing)
    Runner.from_cfg(cfg).test()
    dataset = dict(BALANCED, dataset=folders(photos, tmp_path / 'store'))
    cfg = training(dataset, photos, tmp_path / 'store', tmp_path, sampler=dict(type='mmtinyvit.PairedSampler'))
    cfg.data_preprocessor = dict(cfg.data_preprocessor, type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing)
    with pytest.raises(UserError, match='mixed views need the same list'):
        Runner.from_cfg(cfg).train()
    cfg.train_dataloader.dataset = folders(photos, tmp_path / 'store')
    cfg.data_preprocessor.num_classes = 2
    with pytest.raises(UserError, match='of 3 classes, and num_classes=2 of the data preprocessor is too small'):
        Runner.from_cfg(cfg).train()


def test_labels_of_a_wrapped_dataset(tmp_path, photos, saved_store):
    dataset = dict(REPEATED, dataset=folders(photos, saved_store))
    with pytest.raises(UserError, match='the images are of 3 classes, where the teacher has 12'):
        Runner.from_cfg(training(dataset, photos, saved_store, tmp_path, model=student(label_weight=.1))).train()
