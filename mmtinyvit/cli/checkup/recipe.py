"""A config: whether its data, store and teacher fit, by the checks that a run begins with; and its cost."""
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmtinyvit.apis.networks import count_parameters
from mmtinyvit.apis.store_plan import free_bytes, plan_store
from mmtinyvit.config import saves_logits, saving_loop
from mmtinyvit.datasets.load_teacher_logits import LoadTeacherLogits, use_store
from mmtinyvit.datasets.views import iter_transforms
from mmtinyvit.engine.hooks.sparse_logit_distill import StoreHook
from mmtinyvit.engine.runner import Runner, TeacherRunner
from mmtinyvit.engine.store_request import listed_keys
from mmtinyvit.errors import UserError, user_sentence
from mmtinyvit.store import LogitStore, LogitWriter, make_codec
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.layout import MANIFEST_NAME, spell_numbers

from ..config_faults import config_fault
from ..runner import build_runner, check_data
from ..tables import size, spell_time
from ..throughput import images_per_second, shorten_batch
from . import Finding

__all__ = ['check_recipe', 'store_place']

PROBED = 32  # images that a teacher is asked about


def store_place(cfg: Config) -> str:
    """Where a config's run writes most: the folder of the store that it saves, or the work folder."""
    return str((saves_logits(cfg) and saving_loop(cfg, cfg.filename).get('store')) or cfg.work_dir)


def check_recipe(cfg: Config) -> Iterator[Finding]:
    """What a run of this config would find, and cost. It writes nothing that stays; a fault ends it.

    Args:
        cfg: From :func:`~mmtinyvit.cli.runner.load_config`.
    """
    saves = saves_logits(cfg)
    step = 'data'
    with tempfile.TemporaryDirectory() as work_dir, open(Path(work_dir, 'log'), 'w') as log:
        place, cfg.work_dir, cfg.log_level = cfg.work_dir, work_dir, 'WARNING'
        cfg.launcher = 'none'
        checks = _saving(cfg) if saves else _training(cfg, place)
        while True:
            try:
                with redirect_stdout(log), redirect_stderr(log):
                    finding = next(checks, None)
            except Exception as error:
                fault = error if isinstance(error, UserError) else config_fault(error)
                if fault is None:
                    raise
                yield Finding(step, user_sentence(fault), False)
                return
            if finding is None:
                return
            step = NEXT[saves].get(finding.name, 'run')
            yield finding


# What comes after a check that went well, so that a fault is named by what was being looked at.
NEXT = {True: {'data': 'teacher', 'teacher': 'store', 'store': 'cost'},
        False: {'data': 'model', 'model': 'store', 'store': 'cost'}}


# ---------------------------------------------------------------- a teacher that saves
def _saving(cfg: Config) -> Iterator[Finding]:
    saving_loop(cfg, cfg.filename)
    check_data(cfg, 'test_dataloader')
    yield Finding('data', 'there')
    runner = build_runner(cfg, TeacherRunner)
    yield Finding('teacher', f'{count_parameters(runner.model) / 1e6:,.1f} M parameters, all with weights')
    saver = runner.test_loop
    request, views, samples = saver.request(), saver.views, len(saver.teacher.dataset)
    left = len(views)
    place = str(saver.store_path)
    if is_url(place):
        yield Finding('store', f'{place}: a URL, not looked at', None)
    elif Path(place, MANIFEST_NAME).exists():
        with listed_keys(saver.teacher) as keys, LogitWriter(place, request, keys, join=True):  # refuses another one
            pass
        complete = LogitStore(place).complete_views()
        left = len(set(views) - set(complete))
        yield Finding('store', f'{place}: fits; views {spell_numbers(complete) or "none"} are complete')
    else:
        yield Finding('store', f'{place}: not there yet')
    planned = plan_store(cfg, runner.model, min(PROBED, samples))
    codec = make_codec(request['codec'], request['topk'], request['num_classes'])
    num_bytes = int(samples * left * (codec.record_bytes + 8 * bool(request['mixing']) + .5))
    seconds = samples * left / planned['per_second']
    room = None if is_url(place) else free_bytes(place)
    fits = room is None or num_bytes <= room
    yield Finding('cost', f'{samples:,} images x {left} views that are missing: {spell_time(seconds)} on this device, '
                  f'{size(num_bytes)}' + (f' of {size(room)} that are free' if room is not None else ''), fits)


# ---------------------------------------------------------------- a training
def _training(cfg: Config, place: str) -> Iterator[Finding]:
    check_data(cfg, 'train_dataloader', 'val_dataloader')
    yield Finding('data', 'there')
    whole_batch = cfg.train_dataloader.get('batch_size')
    shorten_batch(cfg)
    runner = build_runner(cfg)
    parameters = count_parameters(runner.model)
    yield Finding('model', f'{parameters / 1e6:,.1f} M parameters')
    dataset = runner.train_loop.dataloader.dataset  # built here, and checked against the model
    if any(isinstance(transform, LoadTeacherLogits) for transform in iter_transforms(dataset)):
        yield _student_store(runner, dataset)
    per_second = images_per_second(runner)
    epochs = runner.max_epochs if runner.train_loop.__class__.__name__.startswith('Epoch') else None
    images = len(dataset) * epochs if epochs else runner.max_iters * (whole_batch or 1)
    kept = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    count = kept.get('max_keep_ckpts', -1)
    count = count if count > 0 else max(1, (epochs or 1) // max(1, kept.get('interval', 1)))
    num_bytes, room = 12 * parameters * count, free_bytes(place)  # weights, and two moments of AdamW
    yield Finding('cost', f'{images:,} images' + (f' ({len(dataset):,} x {epochs} epochs)' if epochs else '')
                  + f': {spell_time(images / per_second)} on this device, {per_second:,.1f} images per second; about '
                  f'{size(num_bytes)} of checkpoints of {size(room)} that are free', num_bytes <= room)


def _student_store(runner: Runner, dataset: Any) -> Finding:
    reader = use_store(dataset, runner.cfg)
    hook = next((hook for hook in runner.hooks if isinstance(hook, StoreHook)), None)
    if hook is None:
        return Finding('store', 'the pipeline reads one, and no hook holds the training to it: add '
                       "dict(type='mmtinyvit.SparseLogitDistillHook') to custom_hooks", False)
    if reader.mode != 'stored':
        return Finding('store', f'{", ".join(map(str, reader.paths))}: mode={reader.mode}, so the teacher is asked '
                       'while training', None)
    hook.before_train(runner)  # refuses a store of other data, views, classes or pixels
    hook.before_train_epoch(runner)
    return Finding('store', f'{", ".join(map(str, reader.paths))}: fits; views {spell_numbers(hook.views)}')
