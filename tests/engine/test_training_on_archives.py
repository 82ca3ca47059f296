"""Images in tars, zips and shards, with and without labels: stores and students are those of the class folders."""
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_flow import TOPK, contents, distilling, recorded, saving, student, teacher, view_pipeline

from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore


def add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def tar_of_tars(photos: Path, root: Path) -> None:
    with tarfile.open(root / 'whole.tar', 'w') as whole:
        for folder in sorted(photos.iterdir()):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode='w') as file:
                for path in sorted(folder.iterdir(), reverse=True):
                    add(file, path.name, path.read_bytes())
            add(whole, f'{folder.name}.tar', buffer.getvalue())


def zips(photos: Path, root: Path) -> None:
    for folder in photos.iterdir():
        with zipfile.ZipFile(root / f'{folder.name}.zip', 'w') as file:
            for path in folder.iterdir():
                file.write(path, path.name)


def shards(photos: Path, root: Path) -> None:
    files = sorted(photos.rglob('*.png'))
    for number in range(2):
        with tarfile.open(root / f'web-{number:05d}.tar', 'w') as file:
            for path in files[number::2]:
                add(file, path.name, path.read_bytes())


def images(photos: Path, root: Path, pack, store: Path | None = None, **options) -> dict:
    """The config of a dataset of the photos as ``pack`` writes them."""
    if not root.exists():
        root.mkdir()
        pack(photos, root)
    index_images(root, root / 'images.index', **options)
    return dict(type='mmtinyvit.IndexedImages', data_root=str(root), pipeline=view_pipeline(root, store))


def save(dataset: dict, store: Path, work_dir: Path, checkpoint: Path, **loop) -> None:
    cfg = saving(Path(), store, work_dir, checkpoint, **loop)
    cfg.test_dataloader.dataset = dataset
    Runner.from_cfg(cfg).test()


def training(dataset: dict, store: Path, work_dir: Path, **changes) -> Config:
    cfg = distilling(Path(), store, work_dir, **changes)
    cfg.train_dataloader.dataset = dataset
    return cfg


def trained(dataset: dict, store: Path, work_dir: Path, **changes) -> tuple[list, dict[str, torch.Tensor]]:
    """What the student saw, and its weights in the end."""
    Runner.from_cfg(training(dataset, store, work_dir, **changes)).train()
    return sorted(recorded(work_dir)), torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']


@pytest.mark.parametrize(('pack', 'options'), [
    (tar_of_tars, {}), (tar_of_tars, dict(labels='none')),
    (zips, dict(classes=['class_0', 'class_00', 'class_1', 'class_2'], missing_classes='keep'))],
    ids=['tars', 'unlabelled tars', 'zips with another class list'])
def test_a_store_of_folders_serves_the_archives(pack, options, tmp_path, photos, saved_store, folder_student):
    dataset = images(photos, tmp_path / 'images', pack, saved_store, **options)
    seen, weights = trained(dataset, saved_store, tmp_path / 'work')
    assert seen == folder_student[0] and len(seen) == 2 * 14
    assert all(torch.equal(weights[name], value) for name, value in folder_student[1].items())


@pytest.fixture(scope='module')
def folder_student(tmp_path_factory, photos, saved_store):
    work_dir = tmp_path_factory.mktemp('folder_student')
    Runner.from_cfg(distilling(photos, saved_store, work_dir)).train()
    return sorted(recorded(work_dir)), torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']


def test_a_store_of_archives_serves_the_folders(tmp_path, photos, saved_store, teacher_checkpoint, folder_student):
    """Begun from zip files with labels, gone on with from tars without, it holds what one of folders does."""
    store = tmp_path / 'store'
    save(images(photos, tmp_path / 'zips', zips), store, tmp_path / 'one', teacher_checkpoint, views=(0, 1))
    save(images(photos, tmp_path / 'tars', tar_of_tars, labels='none'), store, tmp_path / 'two', teacher_checkpoint)
    assert contents(store) == contents(saved_store)
    Runner.from_cfg(distilling(photos, store, tmp_path / 'work')).train()
    assert sorted(recorded(tmp_path / 'work')) == folder_student[0]


# ---------------------------------------------------------------- shards without labels
@pytest.fixture(scope='module')
def unlabelled(tmp_path_factory, photos, teacher_checkpoint):
    """A dataset of shards without labels, and its store."""
    folder = tmp_path_factory.mktemp('unlabelled')
    dataset = images(photos, folder / 'images', shards)
    save(dataset, folder / 'store', folder / 'work', teacher_checkpoint)
    return dataset | dict(pipeline=view_pipeline(folder / 'images', folder / 'store')), folder / 'store'


def test_saving_and_distilling_without_labels(tmp_path, unlabelled):
    dataset, place = unlabelled
    store = LogitStore(place)
    assert store.complete_views() == [0, 1] and store.key(0) == 'web-00000/photo_000.png'
    assert store.manifest.fingerprints['dataset']['num_classes'] is None
    seen, _ = trained(dataset, place, tmp_path, workers=2, loader=dict(persistent_workers=False))
    assert {key for *_, key, _ in seen} == {store.key(i) for i in range(14)}


def test_mixing_without_labels(tmp_path, photos, teacher_checkpoint):
    mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.)
    save(images(photos, tmp_path / 'images', shards), tmp_path / 'store', tmp_path / 'saving', teacher_checkpoint,
         mixing=mixing)
    dataset = images(photos, tmp_path / 'images', shards, tmp_path / 'store')
    cfg = training(dataset, tmp_path / 'store', tmp_path / 'work', sampler=dict(type='mmtinyvit.PairedSampler'))
    cfg.data_preprocessor = dict(cfg.data_preprocessor, type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing,
                                 num_classes=12)
    Runner.from_cfg(cfg).train()
    assert len(recorded(tmp_path / 'work')) == 2 * 14


def test_a_teacher_beside_the_student_without_labels(tmp_path, photos, unlabelled, teacher_checkpoint):
    dataset = images(photos, tmp_path / 'images', shards, tmp_path / 'store')
    dataset['pipeline'][2].update(mode='auto')
    cfg = training(dataset, tmp_path / 'store', tmp_path / 'work', hook=dict(
        type='mmtinyvit.CacheLogitsHook', checkpoint=str(teacher_checkpoint), topk=TOPK, samples_per_shard=4,
        teacher_model=teacher() | dict(data_preprocessor=dict(saving(Path(), Path(), Path()).data_preprocessor))))
    Runner.from_cfg(cfg).train()
    ours, other = LogitStore(tmp_path / 'store'), LogitStore(unlabelled[1])
    assert all((ours.read_positions(1, range(14))[i] == other.read_positions(1, range(14))[i]).all() for i in range(3))


@pytest.mark.parametrize('model', [student(label_weight=.5), student(
    type='mmtinyvit.DeiTDistillClassifier', head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=12, in_channels=16)
)], ids=['label_weight', 'alpha'])
def test_labels_that_are_wanted_and_missing(tmp_path, unlabelled, model):
    with pytest.raises(UserError, match='learns from labels too, and the images have none: .*label_weight=0'):
        Runner.from_cfg(training(*unlabelled, tmp_path, model=model)).train()


def test_commands_without_labels(tmp_path, unlabelled, run_tool):
    training(*unlabelled, tmp_path / 'work').dump(tmp_path / 'train.py')
    look = ['--config', tmp_path / 'train.py']
    drawn = run_tool('logit_store', 'gallery', *look, '--out', tmp_path / 'views.png', '--rows', 2)
    assert drawn.status == 0 and (tmp_path / 'views.png').stat().st_size > 1000, drawn.err
    for command in (['stats', unlabelled[1]], ['gallery', '--hardest', '--out', tmp_path / 'x.png']):
        assert 'has no label' in run_tool('logit_store', *command, *look).sentence
    assert run_tool('browse_views', tmp_path / 'train.py', '--out', tmp_path / 'browsed.png').status == 0
    assert run_tool('logit_store', 'verify', unlabelled[1]).status == 0


def test_an_unlabelled_index_that_is_asked_for_labels(tmp_path, photos, teacher_checkpoint):
    dataset = images(photos, tmp_path / 'images', shards)
    dataset['pipeline'].insert(0, dict(type='mmtinyvit.MapLabel', index=[0]))
    with pytest.raises(UserError, match='MapLabel has nothing to map, since .*photo_000.png has no label'):
        save(dataset, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
