"""A real Runner saves at 32 pixels: what is written, by how many processes, and after an interruption."""
import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, VIEW_TRANSFORMS, contents, photo_dataset, saving, teacher, write_photos

from mmtinyvit.datasets import LoadImage, ViewDataset
from mmtinyvit.datasets.identity import canary_digest
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

TIMM = dict(type='TimmClassifier', model_name='test_efficientnet', num_classes=CLASSES, pretrained=False,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True))


def save(*args, **kwargs) -> dict:
    return Runner.from_cfg(saving(*args, **kwargs)).test()


def asked_again(photos, checkpoint, view: int, batch_size: int = 3) -> torch.Tensor:
    """The teacher's log-probabilities ``(N, C)`` float64, in the batches of saving: three, then one of a shard."""
    init_default_scope('mmpretrain')
    model = MODELS.build(teacher()).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    viewed = ViewDataset(DATASETS.build(photo_dataset(photos)))
    found = []
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for shard in range(0, len(viewed), 4):
        for first in range(shard, min(shard + 4, len(viewed)), batch_size):
            last = min(first + batch_size, shard + 4, len(viewed))
            images = torch.stack([viewed[view, i]['inputs'] for i in range(first, last)])
            images = (images.flip(1).float() - mean[:, None, None]) / std[:, None, None]
            with torch.no_grad():
                found.append(model(images, mode='tensor').double().log_softmax(1))
    return torch.cat(found)


@pytest.mark.parametrize('view', [0, 1])
def test_the_store_says_what_the_teacher_says(saved_store, photos, teacher_checkpoint, view):
    store = LogitStore(saved_store)
    record = store.read_positions(view, np.arange(14))
    log_prob = asked_again(photos, teacher_checkpoint, view)
    assert (record.index[np.arange(14), record.log_prob.argmax(1)] == log_prob.argmax(1).numpy()).all()
    kept = np.take_along_axis(log_prob.numpy(), record.index, 1)
    assert (np.sort(record.index, 1) == np.sort(log_prob.topk(TOPK).indices.numpy(), 1)).all()
    assert np.abs(np.exp(record.log_prob) - np.exp(kept)).max() < 0.02  # the compact codec's error
    assert np.abs(record.tail_mass - (1 - np.exp(kept).sum(1))).max() < 0.02


@pytest.mark.parametrize('name, words', [(b'caf\xe9.png', 'not text in UTF-8'), (b'two\nlines.png', 'a line break')])
def test_photos_whose_names_no_store_takes_are_refused_at_once(tmp_path, teacher_checkpoint, name, words):
    root = write_photos(tmp_path / 'photos', 4)
    shutil.copy(root / 'class_0/photo_000.png', os.fsencode(root / 'class_0') + b'/' + name)
    with pytest.raises(UserError, match=words):
        save(root, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    assert not (tmp_path / 'store').exists()


def test_the_exact_codec_keeps_half_precision(tmp_path, photos, teacher_checkpoint):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    cfg.test_cfg.update(codec='exact', views=(0, 1))
    Runner.from_cfg(cfg).test()
    record = LogitStore(tmp_path / 'store').read_positions(0, np.arange(14))
    kept = np.take_along_axis(asked_again(photos, teacher_checkpoint, 0).exp().numpy(), record.index, 1)
    assert np.abs(np.exp(record.log_prob) - kept).max() < 2**-10
    assert (np.abs(np.exp(record.log_prob) - kept) <= kept / 1000 + 2**-24).all()


def test_the_manifest_says_where_it_comes_from(saved_store):
    store = LogitStore(saved_store)
    prints = store.manifest.fingerprints
    assert (store.num_samples, store.num_classes, store.topk, store.base_seed) == (14, CLASSES, TOPK, 7)
    assert prints['dataset']['num_samples'] == 14 and prints['dataset']['num_classes'] == 3
    assert [t['type'] for t in prints['pipeline']['transforms']][0] == 'RandomResizedCrop'
    assert prints['teacher']['name'] == 'ResNet_CIFAR' and len(prints['teacher']['weights_hash']) == 32
    assert prints['teacher']['precision'] == 'float32' and 'torch' in prints['versions']


def test_canaries_are_the_pixels(saved_store, photos):
    init_default_scope('mmpretrain')
    viewed, store = ViewDataset(DATASETS.build(photo_dataset(photos))), LogitStore(saved_store)
    for view in (0, 1):
        for shard in range(4):
            assert store.canaries(view, shard) == {4 * shard: canary_digest(viewed[view, 4 * shard]['inputs'])}


@pytest.mark.parametrize('workers', [2])
def test_workers_write_the_same_bytes(tmp_path, photos, teacher_checkpoint, saved_store, workers):
    summary = save(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, workers=workers)
    assert summary['samples'] == 28
    assert contents(tmp_path / 'store') == contents(saved_store)


@pytest.mark.parametrize('views_at_once, workers', [(2, 0), (2, 1), (5, 0)])
def test_several_views_at_once_write_the_same_bytes(tmp_path, photos, teacher_checkpoint, saved_store, monkeypatch,
                                                    views_at_once, workers):
    decoded, transform = [], LoadImage.transform
    monkeypatch.setattr(LoadImage, 'transform', lambda self, results: decoded.append(1) or transform(self, results))
    summary = save(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, workers=workers,
                   views_at_once=views_at_once)
    assert summary['samples'] == 28
    assert len(decoded) == (14 if workers == 0 else 0) + 2  # one sample is replayed twice before the saving begins
    assert contents(tmp_path / 'store') == contents(saved_store)


def test_several_views_at_once_go_on_where_one_is_missing(tmp_path, photos, teacher_checkpoint, saved_store):
    store = tmp_path / 'store'
    cfg = saving(photos, store, tmp_path / 'work', teacher_checkpoint)
    cfg.test_cfg.views = (1, 2)
    assert Runner.from_cfg(cfg).test()['samples'] == 14
    sorted(store.glob('view-*/*'))[1].unlink()
    summary = save(photos, store, tmp_path / 'work', teacher_checkpoint, views_at_once=2)
    assert summary['samples'] == 14 + 4
    assert contents(store) == contents(saved_store)


def test_views_at_once_relative_to_the_first(tmp_path, photos, teacher_checkpoint):
    for number in (1, 3):
        save(photos, tmp_path / f'store_{number}', tmp_path / 'work', teacher_checkpoint, codec='smallest',
             views=(0, 3), views_at_once=number)
    assert contents(tmp_path / 'store_3') == contents(tmp_path / 'store_1')


def test_views_at_once_do_not_see_each_others_pixels(tmp_path, photos, teacher_checkpoint):
    """A crop without a resize is a window on the image, and erasing writes into it."""
    transforms = [dict(type='CenterCrop', crop_size=32), VIEW_TRANSFORMS[-1] | dict(erase_prob=1.)]
    for number in (1, 2):
        save(photos, tmp_path / f'store_{number}', tmp_path / 'work', teacher_checkpoint, views_at_once=number,
             pipeline=dict(transforms=transforms))
    assert contents(tmp_path / 'store_2') == contents(tmp_path / 'store_1')


def test_views_at_once_need_the_augmentation_in_sight(tmp_path, photos, teacher_checkpoint):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, views_at_once=2)
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1] = dict(type='RandomApply', transforms=[pipeline[1]], prob=1.)
    with pytest.raises(UserError, match='as one step of the pipeline'):
        Runner.from_cfg(cfg).test()


def test_going_on_does_only_what_is_missing(tmp_path, photos, teacher_checkpoint, saved_store):
    store = tmp_path / 'store'
    cfg = saving(photos, store, tmp_path / 'work', teacher_checkpoint)
    cfg.test_cfg.views = (0, 1)
    assert Runner.from_cfg(cfg).test()['samples'] == 14
    gone = sorted(store.glob('view-*/*'))[1]
    kept = {path: path.stat().st_mtime_ns for path in store.rglob('shard*') if path != gone}
    gone.unlink()
    assert save(photos, store, tmp_path / 'work', teacher_checkpoint)['samples'] == 4 + 14
    assert contents(store) == contents(saved_store)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert save(photos, store, tmp_path / 'work', teacher_checkpoint)['samples'] == 0


@pytest.mark.parametrize('change, names', [
    (dict(base_seed=8), 'base_seed: 7 != 8'),
    (dict(transforms=[dict(type='RandomResizedCrop', scale=32)]), 'pipeline.transforms'),
], ids=['base_seed', 'transforms'])
def test_going_on_with_other_views_is_refused(photos, saved_store, teacher_checkpoint, tmp_path, change, names):
    before = contents(saved_store)
    with pytest.raises(UserError, match=names):
        save(photos, saved_store, tmp_path, teacher_checkpoint, pipeline=change)
    assert contents(saved_store) == before


def test_going_on_with_another_teacher_is_refused(photos, saved_store, teacher_checkpoint, tmp_path):
    weights = torch.load(teacher_checkpoint, weights_only=True)
    weights['state_dict']['head.fc.bias'][3] += 1e-6
    torch.save(weights, tmp_path / 'other.pth')
    with pytest.raises(UserError, match=r'fingerprints.*teacher.weights_hash: "\w+" != "\w+"|teacher.weights_hash'):
        save(photos, saved_store, tmp_path / 'work', tmp_path / 'other.pth')


@pytest.mark.parametrize('num, names', [(13, '14 != 13'), (15, '14 != 15')])
def test_going_on_with_other_data_is_refused(saved_store, teacher_checkpoint, tmp_path, num, names):
    root = write_photos(tmp_path / 'photos', num)
    with pytest.raises(UserError, match=names):
        save(root, saved_store, tmp_path / 'work', teacher_checkpoint)


def test_going_on_with_changed_images_is_refused(saved_store, teacher_checkpoint, tmp_path):
    root = write_photos(tmp_path / 'photos', 14, seed=1)
    with pytest.raises(UserError, match='does not replay to the pixels'):
        save(root, saved_store, tmp_path / 'work', teacher_checkpoint)


def test_bfloat16_decodes_near(tmp_path, photos, teacher_checkpoint, saved_store):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    cfg.test_cfg.update(amp=True, codec='exact', topk=CLASSES, views=(0, 1))
    Runner.from_cfg(cfg).test()
    store = LogitStore(tmp_path / 'store')
    prob = np.zeros((14, CLASSES))
    record = store.read_positions(0, np.arange(14))
    np.put_along_axis(prob, record.index, np.exp(record.log_prob), 1)
    exact = asked_again(photos, teacher_checkpoint, 0).exp().numpy()
    assert 0 < np.abs(prob - exact).max() < 0.1
    assert store.manifest.fingerprints['teacher']['precision'] == 'autocast'


def test_a_timm_teacher_with_its_own_normalisation(tmp_path, photos):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', model=TIMM)
    cfg.test_cfg.update(views=(0, 1), codec='exact', topk=CLASSES)
    cfg.random_teacher = True
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights = lambda: None
    runner.test()
    store = LogitStore(tmp_path / 'store')
    viewed = ViewDataset(DATASETS.build(photo_dataset(photos)))
    images = torch.stack([viewed[0, i]['inputs'] for i in range(14)]).flip(1).float()
    with torch.no_grad():
        exact = runner.model.model((images - 127.5) / 127.5).softmax(1).numpy()
    record = store.read_positions(0, np.arange(14))
    assert np.abs(np.exp(record.log_prob) - np.take_along_axis(exact, record.index, 1)).max() < 1e-3
    assert store.manifest.fingerprints['teacher']['preprocessor']['mean'] == [127.5] * 3
    assert store.manifest.fingerprints['teacher']['name'] == 'test_efficientnet'


def test_a_random_teacher_is_refused_under_mmengines_own_runner(tmp_path, photos, teacher_checkpoint):
    with pytest.raises(UserError, match='has no weights for .* --random-teacher'):
        save(photos, tmp_path / 'store', tmp_path / 'work')
    assert not (tmp_path / 'store').exists()
    named = teacher() | dict(init_cfg=dict(type='Pretrained', checkpoint=str(teacher_checkpoint)))
    save(photos, tmp_path / 'named', tmp_path / 'work', model=named)  # which MMEngine would not fill for a test
    save(photos, tmp_path / 'given', tmp_path / 'work', teacher_checkpoint)
    named, given = (LogitStore(tmp_path / name).read_positions(0, np.arange(14)) for name in ('named', 'given'))
    assert np.array_equal(named.log_prob, given.log_prob)


@pytest.mark.parametrize('loop, names', [
    (dict(topk=13), 'topk=13 is more than the 12 classes'),
    (dict(num_classes=1000), 'The teacher has 12 classes, and the config says num_classes=1000'),
    (dict(views=(2, 2)), 'views=2:2 names no view'),
    (dict(views_at_once=0), 'views_at_once=0 must be 1 or more'),
    (dict(views_at_once=2, mixing=dict(mixup_alpha=0.8)), 'views_at_once=2 must be .* 1 with mixing'),
])
def test_impossible_requests(tmp_path, photos, teacher_checkpoint, loop, names):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    cfg.test_cfg.update(loop)
    with pytest.raises(UserError, match=names):
        Runner.from_cfg(cfg).test()
    assert not (tmp_path / 'store').exists()


def test_views_that_cannot_be_replayed_are_not_saved(tmp_path, photos, teacher_checkpoint):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    cfg.test_dataloader.dataset.pipeline.insert(2, dict(type='RandomErasing', erase_prob=1., mode='rand'))
    with pytest.raises(UserError, match='two different images.*outside SeededAugment'):
        Runner.from_cfg(cfg).test()
    assert not (tmp_path / 'store').exists()


def test_views_of_different_sizes_are_not_saved(tmp_path, photos, teacher_checkpoint):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint,
                 pipeline=dict(transforms=[dict(type='RandomFlip', prob=0.5)]))
    with pytest.raises(UserError, match='different shapes'):
        Runner.from_cfg(cfg).test()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_teacher_that_says_nan(tmp_path, photos, teacher_checkpoint, value):
    weights = torch.load(teacher_checkpoint, weights_only=True)
    weights['state_dict']['head.fc.bias'][3] = value
    torch.save(weights, tmp_path / 'nan.pth')
    with pytest.raises(UserError, match=r"'class_0/photo_000.png' in view 0.*NaN or infinite"):
        save(photos, tmp_path / 'store', tmp_path / 'work', tmp_path / 'nan.pth')
    assert not list((tmp_path / 'store').rglob('shard*'))


def test_an_image_that_cannot_be_decoded_is_named(tmp_path, teacher_checkpoint):
    root = write_photos(tmp_path / 'photos', 14)
    (root / 'class_1' / 'photo_010.png').write_bytes(b'this is no image')
    with pytest.raises(UserError, match='photo_010.png cannot be decoded'):
        save(root, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, workers=1)
