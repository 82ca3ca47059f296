"""The hook refuses the wrong store, naming both sides, and says what it trains from."""
import io
import re
import shutil

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from PIL import Image
from tiny_flow import BGR_MEAN, VIEW_TRANSFORMS, distilling, saving, student, write_photos

from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import DeiTDistillClassifier
from mmtinyvit.store import LogitStore, StoreError
from mmtinyvit.store.admin.reshard import reshard_store


def train(*args, **kwargs) -> Runner:
    runner = Runner.from_cfg(distilling(*args, **kwargs))
    runner.train()
    return runner


def changed(number: int, **settings) -> list[dict]:
    """The transforms with one of them set otherwise."""
    return [t | settings if i == number else t for i, t in enumerate(VIEW_TRANSFORMS)]


@pytest.fixture
def own_photos(tmp_path, photos):
    """A copy of the photos, to be changed."""
    return shutil.copytree(photos, tmp_path / 'photos')


@pytest.fixture
def own_store(tmp_path, saved_store):
    """A copy of the store, to be changed."""
    return shutil.copytree(saved_store, tmp_path / 'store')


def test_one_line_about_the_store_and_one_about_the_views(tmp_path, photos, saved_store):
    runner = train(photos, saved_store, tmp_path, epochs=3)
    log = next(tmp_path.glob('*/*.log')).read_text()
    line = next(line for line in log.splitlines() if 'Teacher store' in line)
    weights = LogitStore(saved_store).manifest.fingerprints['teacher']['weights_hash']
    for part in (str(saved_store), '14 samples x 2 views', 'top 5 of 12 classes', 'ResNet_CIFAR', weights[:12],
                 f'{8 * 28} bytes', '4 canaries'):
        assert part in line
    assert '3 epochs read 2 stored views: epoch e uses view number e % 2 of 0-1.' in log
    assert runner.message_hub.get_scalar('train/teacher_agreement').current() >= 0
    assert 'teacher_agreement' in log


def test_the_views_can_be_chosen(tmp_path, photos, saved_store):
    runner = train(photos, saved_store, tmp_path, epochs=1, hook=dict(views=[1]))
    assert runner.train_dataloader.dataset.pipeline.transforms[1].clock.view == 1


@pytest.mark.parametrize('hook, names', [
    (dict(views=[0, 2]), 'does not have views 2 completely .complete: 0-1'),
    (dict(topk=10), 'has the top 5 classes .* wants topk=10'),
    (dict(teacher='00'), 'comes from the teacher .*ResNet_CIFAR.*, not from 00'),
], ids=['views', 'topk', 'teacher'])
def test_what_the_hook_asks_for(tmp_path, photos, saved_store, hook, names):
    with pytest.raises(UserError, match=names):
        train(photos, saved_store, tmp_path, hook=hook)


def test_what_the_hook_asks_for_and_gets(tmp_path, photos, saved_store):
    weights = LogitStore(saved_store).manifest.fingerprints['teacher']['weights_hash']
    runner = train(photos, saved_store, tmp_path, epochs=1,
                   hook=dict(views=[0], topk=5, teacher=weights[:8], num_canaries=0))
    assert runner.epoch == 1


@pytest.mark.parametrize('pipeline, names', [
    (dict(base_seed=8), 'base_seed: 7 != 8'),
    (dict(transforms=changed(1, prob=0.4)), r'pipeline.transforms\[1\].prob: 0.5 != 0.4'),
    (dict(transforms=changed(4, fill_color=BGR_MEAN[::-1])), r'pipeline.transforms\[4\].fill_color'),
    (dict(transforms=VIEW_TRANSFORMS[:-1]), 'pipeline.transforms: 5 items != 4 items'),
], ids=['base_seed', 'setting', 'nested setting', 'transform left out'])
def test_other_views(tmp_path, photos, saved_store, pipeline, names):
    with pytest.raises(UserError, match=names):
        train(photos, saved_store, tmp_path, **pipeline)


def test_images_reduced_by_the_student_alone(tmp_path, photos, saved_store):
    """The photos are PNG files, which are never reduced: the pixels are the same, and still the training is refused."""
    cfg = distilling(photos, saved_store, tmp_path)
    cfg.train_dataloader.dataset.pipeline[0].min_side = 20
    with pytest.raises(UserError, match=r'pipeline.min_side: \(absent\) != 20'):
        Runner.from_cfg(cfg).train()


def test_images_reduced_by_the_teacher(tmp_path, photos, teacher_checkpoint):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'save', teacher_checkpoint)
    cfg.test_dataloader.dataset.pipeline[0].min_side = 20
    Runner.from_cfg(cfg).test()
    with pytest.raises(UserError, match=r'pipeline.min_side: 20 != \(absent\)'):
        train(photos, tmp_path / 'store', tmp_path / 'alone')
    cfg = distilling(photos, tmp_path / 'store', tmp_path / 'both', epochs=1)
    cfg.train_dataloader.dataset.pipeline[0].min_side = 20
    Runner.from_cfg(cfg).train()


PLAIN = {name: value for name, value in student().items() if name != 'type'}
DEIT = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=12, in_channels=16),
    backbone=dict(type='mmtinyvit.DistilledDeiT', img_size=32, patch_size=8,
                  arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)))


@pytest.mark.parametrize('model', [
    PLAIN | dict(type='ImageClassifier'),
    dict(type='TimmClassifier', model_name='test_efficientnet', num_classes=12),
    DEIT | dict(alpha=0.),
    DEIT | dict(teacher=dict(model=PLAIN | dict(type='ImageClassifier', data_preprocessor=dict()))),
], ids=['mmpretrain', 'timm', 'alpha 0', 'a teacher beside it'])
@pytest.mark.parametrize('hook', [{}, dict(type='mmtinyvit.CacheLogitsHook', teacher_model={})])
def test_a_model_that_does_not_read_the_store(tmp_path, photos, saved_store, monkeypatch, model, hook):
    monkeypatch.setattr(DeiTDistillClassifier, 'init_weights', ImageClassifier.init_weights)  # builds the teacher
    with pytest.raises(UserError, match=f'reads the store .*{model["type"].rpartition(".")[-1]} as it is set learns'):
        train(photos, saved_store, tmp_path, model=model, hook=hook)


@pytest.mark.parametrize('model', [
    student(11),
    dict(type='mmtinyvit.DistillTimmClassifier', model_name='test_efficientnet', num_classes=11),
], ids=['mmpretrain', 'timm'])
def test_another_number_of_classes(tmp_path, photos, saved_store, model):
    with pytest.raises(UserError, match='student has 11 classes and the store .* has 12'):
        train(photos, saved_store, tmp_path, model=model)


@pytest.mark.parametrize('num_canaries', [8, 0])
def test_other_data(tmp_path, saved_store, num_canaries):
    root = write_photos(tmp_path / 'photos', 15)
    with pytest.raises(UserError, match="no sample 'class_2/photo_014.png'"):
        train(root, saved_store, tmp_path, hook=dict(num_canaries=num_canaries))


def relabelled(photos, store, work_dir, **changes) -> Config:
    """A training on the same files, with a list that gives them other classes."""
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob('*.png'))
    (work_dir / 'list.txt').write_text(''.join(f'{name} {number % 2}\n' for number, name in enumerate(names)))
    cfg = distilling(photos, store, work_dir, epochs=1, **changes)
    cfg.train_dataloader.dataset.update(ann_file=str(work_dir / 'list.txt'), metainfo=dict(classes=['odd', 'even']))
    cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='mmtinyvit.MapLabel', index=[4, 5]))
    return cfg


def test_another_class_list(tmp_path, photos, saved_store):
    """It matters to who reads labels, and to nobody else."""
    with pytest.raises(UserError, match=r'another class list \(3 names, .*2 names'):
        Runner.from_cfg(relabelled(photos, saved_store, tmp_path, model=student(label_weight=.5))).train()
    Runner.from_cfg(relabelled(photos, saved_store, tmp_path)).train()


def test_labels_of_another_layout(tmp_path, photos, saved_store):
    with pytest.raises(UserError, match='the images are of 3 classes, where the teacher has 12: .*--classes'):
        train(photos, saved_store, tmp_path, model=student(label_weight=.5))


def test_another_order(tmp_path, photos, saved_store):
    names = sorted(f'{path.relative_to(photos)} 0' for path in photos.rglob('*.png'))
    (tmp_path / 'list.txt').write_text('\n'.join(reversed(names)))
    cfg = distilling(photos, saved_store, tmp_path)
    cfg.train_dataloader.dataset.update(ann_file=str(tmp_path / 'list.txt'),
                                        metainfo=dict(classes=['class_0', 'class_1', 'class_2']))
    with pytest.raises(UserError, match='another order'):
        Runner.from_cfg(cfg).train()
    cfg.custom_hooks[0].any_order = True
    Runner.from_cfg(cfg).train()


def test_a_subset_is_fine(tmp_path, photos, saved_store):
    cfg = distilling(photos, saved_store, tmp_path, epochs=1)
    cfg.train_dataloader.dataset.indices = [1, 5, 8]
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 1


def test_a_part_without_canaries_is_warned_of(tmp_path, photos, saved_store):
    """After resharding, as before, samples 0, 4, 8 and 12 have one."""
    reshard_store(saved_store, tmp_path / 'two', 2)
    cases = (saved_store, [1, 2], 0), (tmp_path / 'two', [1, 5], 0), (tmp_path / 'two', None, 4)
    for number, (store, indices, checked) in enumerate(cases):
        cfg = distilling(photos, store, tmp_path / f'work{number}', epochs=1, batch_size=2)
        cfg.experiment_name = f'part{number}'  # loggers are kept by name and second
        cfg.train_dataloader.dataset.indices = indices
        Runner.from_cfg(cfg).train()
        log = next((tmp_path / f'work{number}').glob('*/*.log')).read_text()
        assert f'{checked} canaries replayed' in log
        warned = re.search(r'WARNING - None of the 2 samples has a canary .*mmtinyvit store verify', log)
        assert bool(warned) == (checked == 0)


def test_a_changed_image(tmp_path, own_photos, saved_store):
    image = own_photos / 'class_0' / 'photo_000.png'
    shutil.copy(own_photos / 'class_1' / 'photo_001.png', image)
    with pytest.raises(UserError, match='class_0/photo_000.png does not replay.*the image file, its decoder'):
        train(own_photos, saved_store, tmp_path)


def rounds_otherwise(data: bytes, **_) -> np.ndarray:
    """A decoder by way of luminance and chrominance."""
    luma, blue, red = np.moveaxis(np.asarray(Image.open(io.BytesIO(data)).convert('YCbCr'), np.float64), 2, 0)
    image = luma + 1.772 * (blue - 128), luma - .344 * (blue - 128) - .714 * (red - 128), luma + 1.402 * (red - 128)
    return np.stack(image, 2).round().clip(0, 255).astype(np.uint8)


def test_another_decoder(tmp_path, photos, saved_store, monkeypatch):
    """One that makes the same pixels is welcome; one that differs by a rounding is not."""
    cfg = distilling(photos, saved_store, tmp_path / 'work', epochs=1)
    cfg.train_dataloader.dataset.pipeline[0].imdecode_backend = 'pillow'
    Runner.from_cfg(cfg).train()
    image = next(photos.rglob('*.png')).read_bytes()
    assert 0 < np.abs(rounds_otherwise(image).astype(int) - mmcv.imfrombytes(image)).max() <= 3
    monkeypatch.setattr('mmcv.imfrombytes', rounds_otherwise)
    with pytest.raises(UserError, match='does not replay.*versions are the same, so the image file, its decoder or a'):
        train(photos, saved_store, tmp_path)


def test_a_library_that_changed(tmp_path, photos, saved_store, monkeypatch):
    """A library whose crop has other bounds: the canaries notice, and the versions say what it was."""
    from mmpretrain.datasets.transforms.processing import RandomResizedCrop
    original = RandomResizedCrop.transform
    monkeypatch.setattr(RandomResizedCrop, 'transform',
                        lambda self, results: original(self, results | dict(img=results['img'][1:])))
    monkeypatch.setattr('mmtinyvit.engine.store_check.library_versions',
                        lambda: LogitStore(saved_store).manifest.fingerprints['versions'] | dict(timm='99.0'))
    with pytest.raises(UserError, match='these libraries changed.*timm: "[0-9.]+" != "99.0"'):
        train(photos, saved_store, tmp_path)


def test_a_view_that_is_not_complete(tmp_path, photos, own_store):
    next((own_store / 'view-0001').iterdir()).unlink()
    train(photos, own_store, tmp_path / 'work', epochs=1)  # view 0 is
    with pytest.raises(UserError, match='does not have views 1 completely .complete: 0'):
        train(photos, own_store, tmp_path / 'work', hook=dict(views=[0, 1]))


def test_a_damaged_record_stops_the_training(tmp_path, photos, own_store):
    shard = sorted((own_store / 'view-0000').iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[64 + 8] ^= 1  # behind the header, in the second record
    shard.write_bytes(data)
    with pytest.raises(StoreError, match='damaged.*samples 0 to 3 in view 0'):
        train(photos, own_store, tmp_path / 'work')


# ---------------------------------------------------------------- checkpoints
@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, photos, saved_store):
    """After one epoch of three."""
    work = tmp_path_factory.mktemp('resumed')
    train(photos, saved_store, work, epochs=1)
    return work / 'epoch_1.pth'


def resumed(checkpoint, photos, store, work, resume: bool = True) -> Runner:
    cfg = distilling(photos, store, work, epochs=2)
    cfg.resume, cfg.load_from = resume, str(checkpoint)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_the_checkpoint_names_its_store(checkpoint, saved_store):
    saved = torch.load(checkpoint, weights_only=False)
    assert saved['teacher_store'] == dict(path=str(saved_store),
                                          store_id=LogitStore(saved_store).manifest.store_id.hex(), classes=None)
    assert not [name for name in saved['state_dict'] if 'distill' in name]


def test_resuming_from_a_moved_store(checkpoint, photos, own_store, tmp_path):
    assert resumed(checkpoint, photos, own_store, tmp_path / 'work').epoch == 2


def test_resuming_with_another_store(checkpoint, photos, teacher_checkpoint, tmp_path):
    cfg = saving(photos, tmp_path / 'other', tmp_path / 'save', teacher_checkpoint)
    cfg.test_cfg.topk = 4
    Runner.from_cfg(cfg).test()
    with pytest.raises(UserError, match=r'trained from the store .*\(\w{12}\), and this run reads .*other \(\w{12}\)'):
        resumed(checkpoint, photos, tmp_path / 'other', tmp_path / 'work')
    assert resumed(checkpoint, photos, tmp_path / 'other', tmp_path / 'work', resume=False).epoch == 2
