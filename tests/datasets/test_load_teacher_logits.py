import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from tiny_flow import TOPK, distilling, photo_dataset, recorded
from torch.utils.data import DataLoader

from mmtinyvit.datasets import LoadTeacherLogits, PackViewInputs, ViewDataset, derive_seed
from mmtinyvit.datasets.load_teacher_logits import find_reader, find_store, use_store
from mmtinyvit.errors import UserError, user_sentence
from mmtinyvit.store import LogitStore, StoreError


def named(store: LogitStore, position: int = 3, view: int = 1, **changes) -> dict:
    """The results dict after ``SeededAugment``."""
    key = store.key(position)
    return dict(sample_key=key, view=view, aug_seed=derive_seed(store.base_seed, view, key)) | changes


@pytest.fixture
def store(saved_store):
    return LogitStore(saved_store)


def test_the_record_of_the_view(saved_store, store):
    results = LoadTeacherLogits(str(saved_store))(named(store))
    record = store.read_positions(1, [3])
    assert (results['teacher_index'] == record.index[0]).all() and results['teacher_index'].dtype == np.int64
    assert (results['teacher_log_prob'] == record.log_prob[0]).all() and results['teacher_log_prob'].dtype == np.float32
    assert results['teacher_tail_mass'] == record.tail_mass[0] and results['teacher_tail_mass'].dtype == np.float32
    assert np.shape(results['teacher_tail_mass']) == ()
    assert 'teacher_partner' not in results


@pytest.mark.parametrize('name', ['sample_key', 'view', 'aug_seed'])
def test_without_seeded_augment(saved_store, store, name):
    results = named(store)
    del results[name]
    with pytest.raises(UserError, match=f"needs '{name}'.*SeededAugment"):
        LoadTeacherLogits(str(saved_store))(results)


def test_another_base_seed(saved_store, store):
    seed = derive_seed(store.base_seed + 1, 1, store.key(3))
    with pytest.raises(UserError, match=f'base_seed={store.base_seed}'):
        LoadTeacherLogits(str(saved_store))(named(store, aug_seed=seed))


def test_a_view_beyond_the_store(saved_store, store):
    with pytest.raises(StoreError, match='no view 2.*views 0-1') as raised:
        LoadTeacherLogits(str(saved_store))(named(store, view=2))
    assert str(saved_store) in str(raised.value) and store.key(3) in str(raised.value)


def test_a_sample_that_the_store_lacks(saved_store, store):
    key = 'class_0/other.png'
    with pytest.raises(StoreError, match=key):
        LoadTeacherLogits(str(saved_store))(dict(sample_key=key, view=0, aug_seed=derive_seed(7, 0, key)))


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match='no store at'):
        LoadTeacherLogits(str(tmp_path))(dict(sample_key='k', view=0, aug_seed=0))


# ---------------------------------------------------------------- modes
@pytest.mark.parametrize('mode', ['auto', 'online'])
def test_without_a_store_the_record_is_left_to_the_hook(tmp_path, mode):
    results = dict(sample_key='k', view=0, aug_seed=0)
    assert LoadTeacherLogits(str(tmp_path / 'none'), mode=mode)(dict(results)) == results


def test_auto_reads_what_is_there_and_notices_what_comes(tmp_path, saved_store, store):
    """A shard that appears while the transform is in use, and then the view."""
    copy = shutil.copytree(saved_store, tmp_path / 'store')
    gone = copy / 'view-0001' / 'shard-00000.logits'
    data = gone.read_bytes()
    gone.unlink()
    reader = LoadTeacherLogits(str(copy), mode='auto')
    assert 'teacher_index' not in reader(named(store)) and 'teacher_index' in reader(named(store, position=4))
    assert 'teacher_index' not in reader(named(store, view=7))
    with pytest.raises(StoreError, match='lacks shard 0'):
        LoadTeacherLogits(str(copy))(named(store))
    gone.write_bytes(data)
    assert (reader(named(store))['teacher_index'] == store.read_positions(1, [3]).index[0]).all()


def test_auto_hides_no_damage(tmp_path, saved_store, store):
    copy = shutil.copytree(saved_store, tmp_path / 'store')
    shard = copy / 'view-0001' / 'shard-00000.logits'
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match='was cut off'):
        LoadTeacherLogits(str(copy), mode='auto')(named(store))
    (copy / 'manifest.json').write_text('{')
    with pytest.raises(StoreError, match='damaged'):
        LoadTeacherLogits(str(copy), mode='auto')(named(store))


def test_online_reads_nothing(saved_store, store):
    results = named(store)
    assert LoadTeacherLogits(str(saved_store), mode='online')(dict(results)) == results


@pytest.mark.parametrize('settings, names', [
    (dict(store='a', mode='sometimes'), "mode='sometimes'.*stored, auto, online"),
    (dict(store=['a', 'b'], mode='auto'), 'is for one store, and 2 are named'),
    (dict(store='s3://bucket/store', mode='auto'), 'nothing writes to a URL such as s3://bucket/store'),
    (dict(store=['a', 'b'], weights=[1.]), '1 weights for 2'),
    (dict(store=[]), 'needs the folder of a store'),
    (dict(store='a', mode='auto', topk=3), "topk=3 .* reads a part of what is stored, and mode='auto' asks"),
])
def test_settings_that_make_no_sense(settings, names):
    with pytest.raises(UserError, match=names):
        LoadTeacherLogits(**settings)


def test_stores_of_other_classes_are_not_combined(tmp_path, saved_store, store):
    from mmtinyvit.store import LogitWriter
    LogitWriter(tmp_path / 'other', dict(topk=2, num_classes=9), ['k']).close()
    with pytest.raises(UserError, match='has 12 classes and .* has 9'):
        LoadTeacherLogits([str(saved_store), str(tmp_path / 'other')])(named(store))


def test_packing_keeps_name_and_record():
    results = dict(img=np.zeros((4, 5, 3), np.uint8), base_seed=3, view=2, sample_key='k', aug_seed=9, img_path='p',
                   gt_label=1,
                   teacher_index=np.arange(3), teacher_log_prob=np.zeros(3, np.float32),
                   teacher_tail_mass=np.float32(0), teacher_partner=np.uint64(2**63))
    packed = PackViewInputs()(results)
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 4, 5) and packed['inputs'].dtype == torch.uint8
    assert (sample.base_seed, sample.view, sample.sample_key, sample.aug_seed, sample.img_path) == (3, 2, 'k', 9, 'p')
    assert sample.teacher_index.tolist() == [0, 1, 2] and int(sample.teacher_partner) == 2**63


def test_packing_works_without_a_teacher():
    sample = PackViewInputs()(dict(img=np.zeros((4, 5, 3), np.uint8)))['data_samples']
    assert isinstance(sample, DataSample) and 'teacher_index' not in sample


# ---------------------------------------------------------------- fewer classes than are stored
def test_fewer_classes(photos, saved_store, store):
    init_default_scope('mmpretrain')
    results = LoadTeacherLogits(str(saved_store), topk=2)(named(store))
    record = store.read_positions(1, [3], topk=2)
    assert results['teacher_index'].tolist() == record.index[0].tolist() and results['teacher_index'].shape == (2, )
    assert results['teacher_tail_mass'] == record.tail_mass[0] > store.read_positions(1, [3]).tail_mass[0]
    reader = use_store(DATASETS.build(without_a_store(photos)), dict(store=[str(saved_store)] * 2, store_topk=2))
    assert reader(named(store))['teacher_index'].shape == (4, )  # the mean of two


def test_more_classes_than_a_store_has(saved_store, store):
    with pytest.raises(StoreError, match=f'top {TOPK} classes of each view, so topk={TOPK + 1} cannot be read'):
        LoadTeacherLogits(str(saved_store), topk=TOPK + 1)(named(store))


def test_a_training_goes_on_with_as_many_classes(photos, saved_store, tmp_path, capfd):
    cfg = distilling(photos, saved_store, tmp_path, epochs=1)
    cfg.store_topk = 2
    Runner.from_cfg(cfg).train()
    said = capfd.readouterr()
    assert f'top {TOPK} of 12 classes, of which 2 are read' in said.out + said.err
    other = distilling(photos, saved_store, tmp_path / 'other', epochs=2)
    other.resume, other.load_from = True, str(tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match='trained with 2 of the stored classes, and this run reads all'):
        Runner.from_cfg(other).train()


# ---------------------------------------------------------------- store and mode of a config
def without_a_store(photos) -> dict:
    """The config of a dataset whose pipeline names no store."""
    config = photo_dataset(photos, 'unknown')
    config['pipeline'][2] = dict(type='mmtinyvit.LoadTeacherLogits')
    return config


def test_a_pipeline_reads_what_the_config_names(photos, saved_store, store):
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(without_a_store(photos))
    reader = use_store(dataset, dict(store=str(saved_store), mode='auto'))
    assert reader is find_reader(dataset) and (reader.paths, reader.mode) == ([str(saved_store)], 'auto')
    assert (reader(named(store))['teacher_index'] == store.read_positions(1, [3]).index[0]).all()
    reader = use_store(dataset, dict(store=[str(saved_store)] * 2, store_weights=[3, 1]))
    assert (len(reader.stores), reader.mode, reader.weights) == (2, 'stored', [.75, .25])


def test_what_the_pipeline_names_comes_first_and_is_said(photos, saved_store, tmp_path, capfd):
    init_default_scope('mmpretrain')
    config = photo_dataset(photos, saved_store)
    config['pipeline'][2].update(mode='online')
    dataset = DATASETS.build(config)
    for _ in range(2):
        reader = use_store(dataset, dict(store=str(tmp_path), mode='stored', store_weights=[1, 2]))
        assert (reader.paths, reader.mode, reader.weights) == ([str(saved_store)], 'online', [1])
    said = capfd.readouterr()
    assert (said.out + said.err).count('in the pipeline, so store=') == 1
    assert "LoadTeacherLogits has mode='online' in the pipeline, so mode='stored' of the config is not used" in (
        said.out + said.err)
    use_store(DATASETS.build(config), dict(store=str(saved_store)))
    assert 'LoadTeacherLogits' not in ''.join(capfd.readouterr())


def test_words_of_a_config_without_a_store_are_its_own(photos, saved_store):
    init_default_scope('mmpretrain')
    reader = use_store(DATASETS.build(photo_dataset(photos, saved_store)), dict(mode='fast', store_weights='none'))
    assert (reader.paths, reader.mode, reader.weights) == ([str(saved_store)], 'stored', [1])


def test_a_config_without_a_store_gets_a_sentence(photos):
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(without_a_store(photos))
    alone = LoadTeacherLogits()
    for read in (lambda: use_store(dataset, {}), lambda: use_store(dataset, dict(mode='auto')),
                 lambda: alone(dict(sample_key='k', view=0, aug_seed=0))):
        with pytest.raises(UserError, match='LoadTeacherLogits has no store: set store= at the top level'):
            read()


@pytest.mark.parametrize('workers', [0, 2])
def test_a_training_follows_the_options_of_its_command(photos, saved_store, tmp_path, workers):
    """As ``--cfg-options store=...`` does in any tool, since all merge it into the config."""
    cfg = distilling(photos, 'unknown', tmp_path, epochs=1, workers=workers)
    cfg.train_dataloader.dataset = without_a_store(photos)
    cfg.merge_from_dict(dict(store=str(saved_store)))
    Runner.from_cfg(cfg).train()
    assert len(recorded(tmp_path)) == 14
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    assert checkpoint['teacher_store']['path'] == str(saved_store)


def test_a_mode_that_needs_a_teacher_is_refused_from_the_command_too(photos, saved_store, tmp_path):
    cfg = distilling(photos, 'unknown', tmp_path)
    cfg.train_dataloader.dataset = without_a_store(photos)
    cfg.merge_from_dict(dict(store=str(saved_store), mode='online'))
    with pytest.raises(UserError, match="mode='online' of LoadTeacherLogits needs a teacher"):
        Runner.from_cfg(cfg).train()


@pytest.fixture
def dataset(photos, saved_store):
    init_default_scope('mmpretrain')
    return DATASETS.build(photo_dataset(photos, saved_store))


def test_workers_read_the_same_records(dataset, store):
    find_store(dataset)  # opened in this process, as the hook does, and again in each worker
    items = list(DataLoader(ViewDataset(dataset), sampler=[(1, i) for i in range(14)], batch_size=None, num_workers=2))
    expected = store.read_positions(1, np.arange(14))
    assert [item['data_samples'].sample_key for item in items] == [store.key(i) for i in range(14)]
    assert (np.stack([item['data_samples'].teacher_index for item in items]) == expected.index).all()
    assert expected.index.shape == (14, TOPK)


def test_an_error_in_a_worker_keeps_its_sentence(dataset):
    loader = DataLoader(ViewDataset(dataset), sampler=[(0, 1), (5, 1)], batch_size=None, num_workers=1)
    with pytest.raises(UserError) as raised:
        list(loader)
    sentence = user_sentence(raised.value)
    assert sentence.startswith('The store ') and 'no view 5' in sentence and 'Traceback' not in sentence


def test_find_store_wants_exactly_one(photos):
    init_default_scope('mmpretrain')
    with pytest.raises(UserError, match='0 mmtinyvit.LoadTeacherLogits'):
        find_store(DATASETS.build(photo_dataset(photos)))


def test_find_store_wants_one_store(photos, saved_store):
    init_default_scope('mmpretrain')
    config = photo_dataset(photos, saved_store)
    config['pipeline'][2]['store'] = [str(saved_store)] * 2
    with pytest.raises(UserError, match='reads 2 stores where one is needed'):
        find_store(DATASETS.build(config))
