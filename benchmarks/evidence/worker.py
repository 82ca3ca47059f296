"""Carries out one step in a process of its own: saves a store, or trains; goes on where a killed one stopped."""
import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from harness import machine
from mmengine.config import Config
from mmengine.registry import DATASETS
from timm.utils import unwrap_model

from mmtinyvit import __version__
from mmtinyvit.apis.store_stats import measure_store
from mmtinyvit.cli.runner import TeacherRunner, build_runner
from mmtinyvit.store import LogitStore

from . import photos  # registers the metric, too
from .kept_views import keep_views
from .tasks import TASKS

__all__ = ['carry_out']

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for projects/
SECONDS = 1  # between two notes of the time that a step has taken


def carry_out(folder: Path, threads: int) -> None:
    """Do the step that was prepared in ``folder``, unless it is finished; writes result.json last.

    Two processes never work in one folder: the second waits, and finds the result.
    """
    torch.set_num_threads(threads)
    with alone(folder / 'lock'):
        if (folder / 'result.json').exists():
            return
        config = json.loads((folder / 'config.json').read_text())
        config = dict(default_scope='mmpretrain') | config | dict(
            work_dir=str(folder / 'work'), experiment_name=folder.name, log_level='WARNING', launcher='none',
            env_cfg=dict(mp_cfg=dict(opencv_num_threads=0)), visualizer=dict(
                type='mmpretrain.UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]))
        timed = config.pop('timed', False)  # what it took is compared: each view is made anew
        for module in config.pop('modules', ()):
            import_module(module)
        with metered(folder / 'spent'):
            task = next((task for name, task in TASKS.items() if name in config), None)
            if task is not None:
                result = task(config, folder)
            elif 'train_cfg' in config:
                loader = config['train_dataloader']
                if not timed:
                    loader['dataset'] = keep_views(loader['dataset'], folder.parent / 'views')
                result = train(config)
            else:
                result = try_out(config) if config['test_cfg']['type'] == 'TestLoop' else save(config, folder)
        result['cpu_seconds'] = sum(float(path.read_text() or 0) for path in (folder / 'spent').iterdir())
        written = folder / 'result.json.part'
        written.write_text(json.dumps(result | dict(version=__version__, machine=machine()), indent=1))
        written.replace(folder / 'result.json')


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when the process dies."""
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def metered(folder: Path) -> Iterator[None]:
    """Write the processor time of the block into a file of ``folder``, also while it runs: a killed process leaves it.
    """
    folder.mkdir(exist_ok=True)
    file, start, done = folder / str(time.time_ns()), time.process_time(), threading.Event()

    def write() -> None:
        file.write_text(str(time.process_time() - start))

    def keep() -> None:
        while not done.wait(SECONDS):
            write()

    write()
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        write()


def train(config: dict[str, Any]) -> dict[str, Any]:
    """Train from the last checkpoint on, if there is one.

    Returns how much it saw, and the accuracies by epoch if it is tested.
    """
    work = Path(config['work_dir'])
    if (work / 'last_checkpoint').is_file():
        config |= dict(resume=True, load_from=None)
    runner = build_runner(Config(config, format_python_code=False))
    runner.train()
    model = unwrap_model(runner.model)
    last = work / f'epoch_{runner.max_epochs}.pth'
    (work.parent / 'last.pth').unlink(missing_ok=True)
    os.link(last, work.parent / 'last.pth')
    seen = dict(images=runner.max_epochs * len(runner.train_dataloader.dataset),
                parameters=sum(p.numel() for p in getattr(model, 'backbone', model).parameters()))
    if 'val_dataloader' not in config:
        return seen
    curve = accuracies(work)
    if not curve or curve[-1]['epoch'] < runner.max_epochs:  # killed between the last checkpoint and the test
        nothing = dict(top1=0., choosing=0.)  # MMDetection gives no precision where nothing was detected
        curve.append(dict(epoch=runner.max_epochs, **(score(runner.val()) or nothing)))
    return dict(curve=curve, **curve[-1], **seen)


def accuracies(work: Path) -> list[dict[str, float]]:
    """What the tests during a training gave, in percent, by epoch.

    A resumed training has several logs, and lacks a test if it was killed between the checkpoint and the test.
    """
    lines = [json.loads(line) for path in sorted(work.glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines()]
    tests = {line['step']: dict(epoch=line['step'], **score(line)) for line in lines if score(line)}
    return [tests[epoch] for epoch in sorted(tests)]


def score(found: Mapping[str, float]) -> dict[str, float]:
    """Percent by which a test judges and chooses: accuracy, or a detector's average precision; empty if neither."""
    if 'coco/bbox_mAP' in found:
        return dict(top1=100 * found['coco/bbox_mAP'], choosing=100 * found['coco/bbox_mAP'])
    return dict(top1=found['accuracy/top1'], choosing=found['accuracy/choosing']) if 'accuracy/top1' in found else {}


def save(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Save what is missing of a store; returns how often the teacher's first class is the label, in percent of views.
    """
    config['test_cfg']['store'] = str(folder / 'store')
    runner = build_runner(Config(config, format_python_code=False), TeacherRunner)
    runner.test()
    store = LogitStore(folder / 'store')
    found = measure_store(store, DATASETS.build(runner.cfg.test_dataloader.dataset), store.complete_views(), worst=1,
                          label_index=photos.IMAGENET_INDEX)
    return dict(views=len(found['views']), bytes=store.num_bytes(), teacher_top1=100 * found['top1'])


def try_out(config: dict[str, Any]) -> dict[str, Any]:
    """Test a teacher."""
    found = build_runner(Config(config, format_python_code=False), TeacherRunner).test()
    return dict(top1=found['accuracy/top1'], choosing=found['accuracy/choosing'], images=0)
