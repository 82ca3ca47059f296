"""What a student sees in a real Runner is what the teacher saw: by workers, order, start method, after a resume."""
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import (
    NORM,
    contents,
    digest,
    distilling,
    photo_dataset,
    recorded,
    saving,
    student,
)

from mmtinyvit.datasets import ViewDataset
from mmtinyvit.engine.teacher import Teacher
from mmtinyvit.errors import UserError
from mmtinyvit.models import ReplayDataPreprocessor

MIXING = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)


@pytest.fixture(scope='module')
def reference(photos):
    """Digests of the normalised views by view and key."""
    init_default_scope('mmpretrain')
    viewed, normalise = ViewDataset(DATASETS.build(photo_dataset(photos))), ReplayDataPreprocessor(**NORM)
    found = {}
    for view in (0, 1):
        for i in range(len(viewed)):
            item = viewed[view, i]
            image = normalise(dict(inputs=item['inputs'][None]))['inputs'][0]
            found[view, item['data_samples'].sample_key] = digest(image)
    return found


def views_seen(work_dir, from_line: int = 0) -> list[dict]:
    """By epoch: digests by view and key."""
    epochs = {}
    for epoch, view, key, pixels in recorded(work_dir, from_line):
        epochs.setdefault(epoch, {})[view, key] = pixels
    return [epochs[epoch] for epoch in sorted(epochs)]


@pytest.mark.parametrize('settings', [
    dict(),
    dict(workers=1, batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False)),
    dict(workers=2, loader=dict(persistent_workers=False)),
    dict(workers=1, loader=dict(multiprocessing_context='spawn')),
], ids=['no workers', 'in order', 'new workers', 'spawned workers'])
def test_the_student_sees_what_the_teacher_saw(tmp_path, photos, saved_store, reference, settings):
    Runner.from_cfg(distilling(photos, saved_store, tmp_path, **settings)).train()
    first, second = views_seen(tmp_path)
    assert first == {name: pixels for name, pixels in reference.items() if name[0] == 0}
    assert second == {name: pixels for name, pixels in reference.items() if name[0] == 1}


def test_after_a_resume_the_views_go_on(tmp_path, photos, saved_store, reference):
    """Four epochs of two views; the second half is done twice, once by a run that starts from the second epoch."""
    Runner.from_cfg(distilling(photos, saved_store, tmp_path, epochs=4, workers=1)).train()
    whole = recorded(tmp_path)
    final = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    cfg = distilling(photos, saved_store, tmp_path, epochs=4, workers=1)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'epoch_2.pth')
    Runner.from_cfg(cfg).train()
    again = recorded(tmp_path, len(whole))
    assert [line[:2] for line in whole] == [[epoch, epoch % 2] for epoch in range(4) for _ in range(14)]
    assert again == whole[28:]  # the order of the samples is the same, too
    resumed = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert all(torch.equal(resumed['state_dict'][name], value) for name, value in final['state_dict'].items())
    assert {(view, key): pixels for _, view, key, pixels in again} == reference


def test_without_a_store_the_clock_counts_epochs(tmp_path, photos, reference):
    cfg = distilling(photos, None, tmp_path, epochs=3, model=student(type='ImageClassifier', head=dict(
        type='LinearClsHead', num_classes=3, in_channels=16)))
    cfg.custom_hooks[0] = dict(type='mmtinyvit.EpochClockHook', num_views=2)
    Runner.from_cfg(cfg).train()
    assert [{name[0] for name in epoch} for epoch in views_seen(tmp_path)] == [{0}, {1}, {0}]
    assert views_seen(tmp_path)[1] == {name: pixels for name, pixels in reference.items() if name[0] == 1}


def test_without_a_hook_training_says_what_is_missing(tmp_path, photos, saved_store):
    cfg = distilling(photos, saved_store, tmp_path)
    cfg.custom_hooks = []
    with pytest.raises(UserError, match='SparseLogitDistillHook'):
        Runner.from_cfg(cfg).train()


def test_training_by_iterations_is_refused(tmp_path, photos, saved_store):
    cfg = distilling(photos, saved_store, tmp_path)
    cfg.train_cfg = dict(by_epoch=False, max_iters=4)
    with pytest.raises(UserError, match='by_epoch=True'):
        Runner.from_cfg(cfg).train()


# ---------------------------------------------------------------- mixing
def mixed_saving(photos, store, work_dir, checkpoint, **changes):
    cfg = saving(photos, store, work_dir, checkpoint, **changes)
    cfg.test_cfg.mixing = MIXING
    return cfg


def mixed_training(photos, store, work_dir, batch_size: int = 4, base_seed: int = 7, **changes):
    cfg = distilling(photos, store, work_dir, batch_size=batch_size,
                     sampler=dict(type='mmtinyvit.PairedSampler', base_seed=base_seed), **changes)
    cfg.data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(MIXING, base_seed=base_seed),
                                 **NORM)
    return cfg


@pytest.fixture(scope='module')
def mixed_store(tmp_path_factory, photos, teacher_checkpoint):
    """A store of mixed views, and the digests by view of what the teacher saw."""
    folder, seen = tmp_path_factory.mktemp('mixed'), {}

    class Watched(Teacher):
        def logits(self, data):
            shown = []
            handle = self.model.register_forward_pre_hook(lambda model, inputs: shown.extend(inputs[0]))
            found = super().logits(data)
            handle.remove()
            for sample, image in zip(data['data_samples'][::2], shown, strict=True):
                seen[sample.view, sample.sample_key] = digest(image)
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmtinyvit.engine.loops.save_logits.Teacher', Watched)
        Runner.from_cfg(mixed_saving(photos, folder / 'store', folder / 'work', teacher_checkpoint)).test()
    return folder / 'store', seen


@pytest.mark.parametrize('settings', [dict(), dict(batch_size=2, workers=1)], ids=['batch 4', 'batch 2'])
def test_mixed_pixels_are_those_that_the_teacher_saw(tmp_path, photos, mixed_store, settings):
    store, seen = mixed_store
    Runner.from_cfg(mixed_training(photos, store, tmp_path, **settings)).train()
    first, second = views_seen(tmp_path)
    assert len(seen) == 28 and first | second == seen


def test_saving_mixed_views_does_not_depend_on_workers(tmp_path, photos, teacher_checkpoint, mixed_store):
    Runner.from_cfg(mixed_saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, workers=2)).test()
    assert contents(tmp_path / 'store') == contents(mixed_store[0])


def test_an_odd_number_of_samples_is_mixed(tmp_path, teacher_checkpoint, photos):
    subset = dict(indices=13)
    cfg = mixed_saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint)
    cfg.test_dataloader.dataset.update(subset)
    Runner.from_cfg(cfg).test()
    cfg = mixed_training(photos, tmp_path / 'store', tmp_path / 'train')
    cfg.train_dataloader.dataset.update(subset)
    Runner.from_cfg(cfg).train()
    assert [len(epoch) for epoch in views_seen(tmp_path / 'train')] == [13, 13]


@pytest.mark.parametrize('change, names', [
    (lambda cfg: cfg.train_dataloader.__setitem__('sampler', ConfigDict(type='DefaultSampler', shuffle=True)),
     'sampler: mmtinyvit.PairedSampler != DefaultSampler'),
    (lambda cfg: cfg.train_dataloader.sampler.update(base_seed=8), 'base_seed=8 of PairedSampler is not the 7 of'),
    (lambda cfg: cfg.data_preprocessor.mixing.update(base_seed=8), 'base_seed=8 of mixing is not the 7 of'),
    (lambda cfg: cfg.data_preprocessor.mixing.update(mixup_alpha=0.2), 'pipeline.mixing.mixup_alpha: 0.8 != 0.2'),
    (lambda cfg: cfg.__setattr__('data_preprocessor', NORM), 'pipeline.mixing'),
    (lambda cfg: cfg.train_dataloader.dataset.update(indices=10), 'mixed views need the same list'),
    (lambda cfg: cfg.train_dataloader.update(batch_size=3), 'PairedSampler|even batch size'),
], ids=['sampler', 'seed of the sampler', 'seed of mixing', 'alpha', 'no mixing', 'subset', 'odd batch'])
def test_mixing_otherwise_than_the_teacher_is_refused(tmp_path, photos, mixed_store, change, names):
    cfg = mixed_training(photos, mixed_store[0], tmp_path)
    change(cfg)
    with pytest.raises(UserError, match=names):
        Runner.from_cfg(cfg).train()


def test_mixing_views_that_were_saved_unmixed_is_refused(tmp_path, photos, saved_store):
    with pytest.raises(UserError, match='pipeline.mixing: null != '):
        Runner.from_cfg(mixed_training(photos, saved_store, tmp_path)).train()


def test_ambient_mixing_is_refused(tmp_path, photos, saved_store):
    cfg = distilling(photos, saved_store, tmp_path)
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])
    cfg.model.data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=12, **NORM)
    with pytest.raises(UserError, match='batch_augments'):
        Runner.from_cfg(cfg).train()


