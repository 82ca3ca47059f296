"""One config online, from an empty store, from half a store and from a whole one: the same losses, and one store."""
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from processes import CLEAN, in_ranks, train_in_turn
from tiny_flow import NORM, contents, distilling, losses, recorded, saving, student, teacher

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, StoreError, verify_store

DEADLINE = 120  # seconds
IN_ORDER = dict(type='DefaultSampler', shuffle=False)


@pytest.fixture
def caching(photos, teacher_checkpoint):
    """The config of a training with a teacher at hand."""

    def config(store, work_dir, mode: str, hook: dict | None = None, **changes):
        cfg = distilling(photos, store, work_dir, **changes)
        cfg.train_dataloader.dataset.pipeline[2]['mode'] = mode
        cfg.custom_hooks[0] = dict(type='mmtinyvit.CacheLogitsHook', topk=5, samples_per_shard=4,
                                   teacher_model=teacher() | dict(data_preprocessor=dict(NORM)),
                                   checkpoint=str(teacher_checkpoint)) | (hook or {})
        cfg.custom_hooks.append(dict(type='RecordLosses'))
        cfg.experiment_name = work_dir.name  # loggers are kept by name and second
        return cfg

    return config


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def save(photos, store, work_dir, checkpoint, **changes) -> None:
    Runner.from_cfg(saving(photos, store, work_dir, checkpoint, **changes)).test()


def half(store, copy):
    """View 0, and one of the four shards of view 1."""
    shutil.copytree(store, copy)
    for shard in sorted((copy / 'view-0001').iterdir())[:1] + sorted((copy / 'view-0001').iterdir())[2:]:
        shard.unlink()
    return copy


@pytest.mark.parametrize('codec', ['compact', 'smallest'])
def test_the_losses_are_the_same_in_all_modes(tmp_path, caching, codec):
    """Batches of the shards' samples, so that each is asked about as a whole in every mode: equal to the last bit."""
    settings = dict(batch_size=4, sampler=IN_ORDER, hook=dict(codec=codec))
    train(caching(tmp_path / 'none', tmp_path / 'online', 'online', **settings))
    assert not (tmp_path / 'none').exists()
    train(caching(tmp_path / 'store', tmp_path / 'auto', 'auto', **settings))
    train(caching(half(tmp_path / 'store', tmp_path / 'half'), tmp_path / 'from_half', 'auto', **settings))
    train(caching(tmp_path / 'store', tmp_path / 'from_whole', 'auto', **settings))
    train(caching(tmp_path / 'store', tmp_path / 'stored', 'stored', **settings))
    online = losses(tmp_path / 'online')
    assert len(online) == 8 and len(set(online)) == 8
    for name in ('auto', 'from_half', 'from_whole', 'stored'):
        assert losses(tmp_path / name) == online, name
    assert contents(tmp_path / 'half') == contents(tmp_path / 'store')
    ids = {torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['teacher_store']['store_id']
           for name in ('online', 'auto', 'from_half', 'stored')}
    assert ids == {LogitStore(tmp_path / 'store').manifest.store_id.hex()}


def test_a_training_writes_what_saving_writes(tmp_path, caching, photos, teacher_checkpoint):
    """Byte for byte, since the teacher sees the same batches."""
    train(caching(tmp_path / 'cached', tmp_path / 'work', 'auto', batch_size=4, sampler=IN_ORDER, workers=1))
    cfg = saving(photos, tmp_path / 'saved', tmp_path / 'save', teacher_checkpoint)
    cfg.test_dataloader.batch_size = 4
    Runner.from_cfg(cfg).test()
    assert contents(tmp_path / 'cached') == contents(tmp_path / 'saved')


@pytest.mark.parametrize('loader', [dict(), dict(drop_last=True), dict(collate_fn=dict(type='pseudo_collate'))],
                         ids=['all', 'some dropped', 'images in a list'])
def test_shuffled_records_are_those_of_saving(tmp_path, caching, saved_store, loader):
    runner = train(caching(tmp_path / 'store', tmp_path / 'work', 'auto', batch_size=5, workers=0 if loader else 1,
                           loader=loader))
    cached, saved = LogitStore(tmp_path / 'store'), LogitStore(saved_store)
    assert cached.manifest.store_id == saved.manifest.store_id
    for view in (0, 1):
        ours, theirs = (store.read_positions(view, np.arange(14)) for store in (cached, saved))
        assert (ours.index == theirs.index).all()
        assert np.abs(ours.log_prob - theirs.log_prob).max() < 1e-5
        assert [cached.canaries(view, shard) for shard in range(4)] == [saved.canaries(view, i) for i in range(4)]
    assert not (tmp_path / 'store' / '.pending').exists()
    assert not [f.problem for f in verify_store(tmp_path / 'store') if f.problem]
    assert not [name for name in runner.model.state_dict() if 'teacher' in name]


def test_what_one_begins_the_other_finishes(tmp_path, caching, photos, teacher_checkpoint, saved_store):
    train(caching(tmp_path / 'store', tmp_path / 'one', 'auto', epochs=1))
    first = contents(tmp_path / 'store')
    save(photos, tmp_path / 'store', tmp_path / 'save', teacher_checkpoint)
    assert first.items() <= contents(tmp_path / 'store').items()
    assert len(contents(tmp_path / 'store')) == len(contents(saved_store))

    begun = half(saved_store, tmp_path / 'begun')
    kept = contents(begun)
    train(caching(begun, tmp_path / 'two', 'auto'))
    assert kept.items() <= contents(begun).items() and contents(begun).keys() == contents(saved_store).keys()
    log = next((tmp_path / 'two').glob('*/*.log')).read_text()
    assert '2 views are coming, 1 of them are stored (0), for 1 the teacher ResNet_CIFAR' in log
    assert 'View 1 is stored. This process asked the teacher 10 times in training and 0 times' in log


def test_views_may_be_fewer_than_epochs(tmp_path, caching):
    train(caching(tmp_path / 'store', tmp_path / 'work', 'auto', epochs=3, hook=dict(views=[4, 2])))
    assert LogitStore(tmp_path / 'store').views == [2, 4]
    assert [view for _, view, *_ in recorded(tmp_path / 'work')] == [4] * 14 + [2] * 14 + [4] * 14


def test_a_whole_store_needs_no_lock(tmp_path, caching, saved_store):
    """Two students may read one store with a config that could also fill it."""
    from mmtinyvit.store.locks import StoreLock
    lock = StoreLock(saved_store)
    lock.claim_job()
    try:
        train(caching(saved_store, tmp_path / 'work', 'auto'))
        with pytest.raises(StoreError, match='is being written by process'):
            train(caching(saved_store, tmp_path / 'more', 'auto', epochs=3))
    finally:
        lock.close()
    assert LogitStore(saved_store).views == [0, 1]


# ---------------------------------------------------------------- mixing
def mixed(cfg, mixing: dict, base_seed: int = 7):
    cfg.train_dataloader.sampler = dict(type='mmtinyvit.PairedSampler', base_seed=base_seed)
    cfg.data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixing, base_seed=base_seed),
                                 **NORM)
    return cfg


def test_mixed_views(tmp_path, caching, photos, teacher_checkpoint):
    mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
    train(mixed(caching(tmp_path / 'store', tmp_path / 'work', 'auto', batch_size=4), mixing))
    train(mixed(caching(tmp_path / 'none', tmp_path / 'online', 'online', batch_size=4), mixing))
    train(mixed(caching(tmp_path / 'store', tmp_path / 'stored', 'stored', batch_size=4), mixing))
    assert len(losses(tmp_path / 'online')) == 8
    assert losses(tmp_path / 'online') == losses(tmp_path / 'work') == losses(tmp_path / 'stored')
    save(photos, tmp_path / 'saved', tmp_path / 'save', teacher_checkpoint, mixing=mixing)
    ours, theirs = LogitStore(tmp_path / 'store'), LogitStore(tmp_path / 'saved')
    assert ours.manifest.store_id == theirs.manifest.store_id
    for view in (0, 1):
        a, b = (store.read_positions(view, np.arange(14)) for store in (ours, theirs))
        assert (a.index == b.index).all() and (a.partner_hash == b.partner_hash).all()
        assert np.abs(a.log_prob - b.log_prob).max() < 1e-5


# ---------------------------------------------------------------- processes
def forked(target, *args) -> CLEAN.Process:
    process = CLEAN.Process(target=target, args=args)
    process.start()
    return process


def test_two_processes(tmp_path, caching, saved_store):
    in_ranks(train_in_turn, [caching(tmp_path / 'store', tmp_path / 'work', 'auto', batch_size=4)])
    assert len(recorded(tmp_path / 'work')) == 28
    ours, theirs = LogitStore(tmp_path / 'store'), LogitStore(saved_store)
    for view in (0, 1):
        a, b = (store.read_positions(view, np.arange(14)) for store in (ours, theirs))
        assert (a.index == b.index).all() and np.abs(a.log_prob - b.log_prob).max() < 1e-5
    assert contents(tmp_path / 'store').keys() == contents(saved_store).keys()


def test_killed_and_resumed(tmp_path, caching, saved_store):
    """Killed in the second epoch, whose first batches are on disk: they are not asked about again."""
    cfg = caching(tmp_path / 'store', tmp_path / 'work', 'auto', batch_size=4, hook=dict(flush_seconds=0.))
    cfg.custom_hooks.append(dict(type='KillAt', iteration=6))
    process = forked(train, cfg)
    process.join(DEADLINE)
    assert process.exitcode == -signal.SIGKILL
    left = sorted((tmp_path / 'store' / '.pending' / 'view-0001').iterdir())
    assert LogitStore(tmp_path / 'store').views == [0] and left
    with open(left[0], 'ab') as file:
        file.write(b'half a row')

    cfg.custom_hooks.pop()
    cfg.resume, cfg.experiment_name = True, 'resumed'
    train(cfg)
    log = '\n'.join(path.read_text() for path in (tmp_path / 'work').glob('*/*.log'))
    assert 'asked the teacher 2 times in training and 0 times for what nobody saw, found 12 records' in log
    ours, theirs = LogitStore(tmp_path / 'store'), LogitStore(saved_store)
    a, b = (store.read_positions(1, np.arange(14)) for store in (ours, theirs))
    assert (a.index == b.index).all() and np.abs(a.log_prob - b.log_prob).max() < 1e-5
    assert contents(tmp_path / 'store').keys() == contents(saved_store).keys()


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize('hook, names', [
    (dict(topk=4), 'topk: 5 != 4'),
    (dict(codec='exact'), 'codec: "compact" != "exact"'),
    (dict(amp=True), 'teacher.precision: "float32" != "autocast"'),
    (dict(teacher_model=teacher() | dict(data_preprocessor=dict(NORM) | dict(to_rgb=False))), 'preprocessor.to_rgb'),
    (dict(teacher='00'), 'comes from the teacher .*, not from 00'),
    (dict(topk=None), 'set topk='),
    (dict(topk=13), 'more than the 12 classes'),
    (dict(teacher_model='configs/nothing.py'), 'There is no config configs/nothing.py'),
    (dict(teacher_model='configs/demo/student.py'), 'does not save logits'),
    (dict(checkpoint='nowhere.pth'), 'There is no checkpoint nowhere.pth'),
], ids=lambda value: '' if isinstance(value, dict) else value)
def test_another_teacher_or_store(tmp_path, caching, saved_store, hook, names):
    before = contents(saved_store)
    with pytest.raises(UserError, match=names):
        train(caching(saved_store, tmp_path / 'work', 'auto', hook=hook))
    assert contents(saved_store) == before


def test_nothing_is_created_for_a_student_that_cannot_learn(tmp_path, caching):
    with pytest.raises(UserError, match='student has 11 classes and the store .* has 12'):
        train(caching(tmp_path / 'store', tmp_path / 'work', 'auto', model=student(11)))
    assert not (tmp_path / 'store').exists()


def test_another_folder_is_not_made_a_store(tmp_path, caching):
    (tmp_path / 'store').mkdir()
    (tmp_path / 'store' / 'thesis.tex').write_text('')
    with pytest.raises(StoreError, match='is not a store and not empty'):
        train(caching(tmp_path / 'store', tmp_path / 'work', 'auto'))


def test_damage_is_an_error_in_auto(tmp_path, caching, saved_store):
    store = shutil.copytree(saved_store, tmp_path / 'store')
    shard = sorted((store / 'view-0000').iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[72] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match='damaged.*samples 0 to 3 in view 0'):
        train(caching(store, tmp_path / 'work', 'auto'))


def test_a_teacher_that_says_nan(tmp_path, caching, teacher_checkpoint):
    weights = torch.load(teacher_checkpoint, weights_only=True)
    weights['state_dict']['head.fc.bias'][3] = float('nan')
    torch.save(weights, tmp_path / 'nan.pth')
    with pytest.raises(StoreError, match=r"sample 'class_\d/photo_\d+.png' in view 0.*NaN or infinite"):
        train(caching(tmp_path / 'store', tmp_path / 'work', 'auto', hook=dict(checkpoint=str(tmp_path / 'nan.pth'))))
    assert not list((tmp_path / 'store').rglob('*.records')) and os.listdir(tmp_path / 'store')


@pytest.mark.parametrize('mode', ['auto', 'online'])
def test_without_a_teacher(tmp_path, caching, saved_store, mode):
    cfg = caching(saved_store, tmp_path, mode)
    cfg.custom_hooks[0] = dict(type='mmtinyvit.SparseLogitDistillHook')
    with pytest.raises(UserError, match=f"mode='{mode}' of LoadTeacherLogits needs a teacher.*CacheLogitsHook"):
        train(cfg)
