"""A batch whose records are read at once has the same samples as one after the other."""
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from tiny_flow import VIEW_TRANSFORMS, photo_dataset
from torch.utils.data import DataLoader, Subset

from mmtinyvit.datasets import ImageFolder, RepeatedViews, set_view
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, LogitWriter, Record, StoreError, key_hash


def build(photos, store=None, **pipeline) -> ImageFolder:
    init_default_scope('mmpretrain')
    return DATASETS.build(photo_dataset(photos, store, **pipeline))


def same(batch, single) -> bool:
    """Pixels, name and record of two lists of samples."""
    for one, other in zip(batch, single, strict=True):
        a, b = one['data_samples'], other['data_samples']
        names = [name for name in b.keys() if name.startswith('teacher_')]
        assert set(names) == {name for name in a.keys() if name.startswith('teacher_')}
        assert torch.equal(one['inputs'], other['inputs'])
        assert all(a.get(name) == b.get(name) for name in ('base_seed', 'view', 'sample_key', 'aug_seed'))
        assert all(np.array_equal(a.get(name), b.get(name)) for name in names)
    return True


def test_a_batch_is_read_at_once_and_the_same(photos, saved_store, monkeypatch):
    dataset = build(photos, saved_store)
    set_view(dataset, 1)
    single = [dataset[i] for i in range(14)]
    read, counts = LogitStore.read, []
    monkeypatch.setattr(LogitStore, 'read', lambda *args: counts.append(len(args[2])) or read(*args))
    batches = list(DataLoader(dataset, 5, collate_fn=list))
    assert counts == [5, 5, 4] and same(sum(batches, []), single)
    assert all('teacher_index' in item['data_samples'] for item in single)


def test_workers_give_the_same(photos, saved_store):
    dataset = build(photos, saved_store)
    set_view(dataset, 0)
    loader = DataLoader(dataset, 4, num_workers=1, collate_fn=list)
    assert same(sum(loader, []), [dataset[i] for i in range(14)])


def test_subsets_and_single_indices(photos, saved_store):
    dataset = build(photos, saved_store)
    set_view(dataset, 1)
    order = [3, 3, 13, 0]
    assert same(sum(DataLoader(Subset(dataset, order), 3, collate_fn=list), []), [dataset[i] for i in order])


@pytest.mark.parametrize('name', ['sample_key', 'img_path'])
def test_a_transform_may_name_the_sample(photos, saved_store, name):
    """In front of SeededAugment, so that the name is not known when the batch is prepared."""
    dataset = build(photos, saved_store)
    set_view(dataset, 1)
    expected = [dataset[i] for i in range(4)]
    get_data_info = dataset.get_data_info

    def unnamed(idx: int) -> dict:
        info = get_data_info(idx)
        info['right'] = info['sample_key'], info['img_path']
        info['sample_key'] = f'other/{idx}'
        if name == 'img_path':
            del info['sample_key'], info['img_path']
        return info

    def give_name(results: dict) -> dict:
        results['sample_key'], results['img_path'] = results.pop('right')
        return results

    dataset.get_data_info = unnamed
    dataset.pipeline.transforms.insert(0, give_name)
    assert same(dataset.__getitems__(range(4)), expected) and same([dataset[i] for i in range(4)], expected)


def test_copies_of_several_views_in_a_batch(photos, saved_store):
    views = RepeatedViews(build(photos, saved_store), num_repeats=2)
    set_view(views, 0)
    order = [0, 14, 5, 19, 20]  # images 0, 0, 5, 5, 6 in the views 0, 1, 0, 1, 1
    assert same(views.__getitems__(order), [views[i] for i in order])


def test_several_stores(photos, saved_store):
    dataset = build(photos, saved_store)
    dataset.pipeline.transforms[2].paths *= 2
    dataset.pipeline.transforms[2].weights = [.25, .75]
    set_view(dataset, 1)
    assert same(dataset.__getitems__([4, 2]), [dataset[4], dataset[2]])


def test_partners_come_with_a_batch(photos, tmp_path):
    keys = [info['sample_key'] for info in map(build(photos).get_data_info, range(14))]
    with LogitWriter(tmp_path / 'store', dict(topk=2, num_classes=9, mixing=True, base_seed=7), keys) as writer:
        partners = np.array([key_hash(key) for key in keys[::-1]], np.uint64)
        for unit in writer.missing([0]):
            log_prob = np.log(np.full((unit.count, 2), [.6, .3], np.float32))
            record = Record(np.tile([1, 4], (unit.count, 1)), log_prob, np.full(unit.count, .1, np.float32),
                            partners[unit.first:unit.first + unit.count])
            writer.write_shard(unit, record)
    dataset = build(photos, tmp_path / 'store')
    set_view(dataset, 0)
    batch = dataset.__getitems__([1, 12])
    assert same(batch, [dataset[1], dataset[12]])
    hashes = [key_hash(keys[12]), key_hash(keys[1])]
    assert [int(item['data_samples'].teacher_partner) for item in batch] == hashes


def test_auto_reads_what_is_there_of_a_batch(photos, saved_store, tmp_path):
    copy = shutil.copytree(saved_store, tmp_path / 'store')
    dataset = build(photos, copy)
    dataset.pipeline.transforms[2].mode = 'auto'
    set_view(dataset, 1)
    (copy / 'view-0001' / 'shard-00001.logits').unlink()  # samples 4 to 7
    found = ['teacher_index' in item['data_samples'] for item in dataset.__getitems__([3, 4, 8])]
    assert found == [True, False, True]
    dataset.pipeline.transforms[2].mode = 'stored'
    with pytest.raises(StoreError, match='lacks shard 1'):
        dataset.__getitems__([3, 4, 8])


def test_what_is_wrong_is_said_as_for_one(photos, saved_store):
    dataset = build(photos, saved_store, base_seed=8)
    set_view(dataset, 1)
    with pytest.raises(UserError) as single:
        dataset[2]
    with pytest.raises(UserError) as batch:
        dataset.__getitems__([2, 3])
    assert str(batch.value) == str(single.value) and 'base_seed=7' in str(single.value)


@pytest.mark.parametrize('base_seed', [8, 7])
def test_each_of_two_augmentations_keeps_to_its_own_seed(photos, saved_store, base_seed):
    dataset = build(photos, saved_store)
    transforms = dataset.pipeline.transforms
    before = build(photos, base_seed=base_seed, transforms=VIEW_TRANSFORMS[:2]).pipeline.transforms[1]
    transforms.insert(1, before)
    set_view(dataset, 1)
    assert same(dataset.__getitems__([2, 3]), [dataset[2], dataset[3]])


def test_a_record_of_another_view_is_not_used(photos, saved_store):
    dataset = build(photos, saved_store)
    set_view(dataset, 1)
    infos = [dataset.get_data_info(i) for i in (2, 3)]
    for transform in dataset.pipeline.transforms[1:3]:
        transform.prepare_batch(infos)
    infos[0]['teacher_record'], infos[1]['teacher_record'] = infos[1]['teacher_record'], infos[0]['teacher_record']
    assert same([dataset.pipeline(info) for info in infos], [dataset[2], dataset[3]])


@pytest.mark.parametrize('method', ['prepare_data', '__getitem__'])
def test_a_dataset_that_makes_its_samples_itself_still_does(photos, saved_store, method):
    init_default_scope('mmpretrain')
    config = photo_dataset(photos, saved_store)
    config.pop('type')
    own = type('Own', (ImageFolder, ), {method: lambda self, idx: idx * 10})
    assert own(**config).__getitems__([1, 2]) == [10, 20]


def test_a_dropped_sample_of_a_batch_is_named(photos):
    init_default_scope('mmpretrain')
    dataset = ImageFolder(data_prefix=str(photos), pipeline=[lambda results: None if results['sample_idx'] == 1 else 1])
    with pytest.raises(UserError, match='returned nothing for .*photo_003.png'):
        dataset.__getitems__([0, 1])
    with pytest.raises(UserError, match='returned nothing for .*photo_003.png'):
        dataset[1]


