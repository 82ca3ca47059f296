"""Carries out one step in a process of its own: saves a store, or trains; goes on where a killed one stopped."""
import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import compare, machine
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import find_latest_checkpoint
from timm.utils import unwrap_model
from torch import nn

from mmtinyvit import __version__
from mmtinyvit.apis.store_cleaning import keep_samples, measure_support
from mmtinyvit.cli.runner import TeacherRunner, build_runner
from mmtinyvit.store import LogitStore

from . import photos
from .kept_views import keep_views

__all__ = ['carry_out']

ROOT = Path(__file__).resolve().parents[2]
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
        config |= dict(default_scope='mmpretrain', work_dir=str(folder / 'work'), experiment_name=folder.name,
                       log_level='WARNING', launcher='none',
                       env_cfg=dict(mp_cfg=dict(opencv_num_threads=0)), visualizer=dict(
                           type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]))
        timed = config.pop('timed', False)  # what it took is compared: each view is made anew
        sys.path.append(str(ROOT))  # for projects/
        for module in config.pop('modules', ()):
            import_module(module)
        with metered(folder / 'spent'):
            if 'clean' in config:
                result = clean(config, folder)
            elif 'speed' in config:
                result = speed(config)
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
    """Train from the last checkpoint on, if there is one; returns the accuracies by epoch."""
    work = Path(config['work_dir'])
    if work.is_dir() and find_latest_checkpoint(str(work)):
        config |= dict(resume=True, load_from=None)
    runner = build_runner(Config(config, format_python_code=False))
    runner.train()
    model = unwrap_model(runner.model)
    last = work / f'epoch_{runner.max_epochs}.pth'
    (work.parent / 'last.pth').unlink(missing_ok=True)
    os.link(last, work.parent / 'last.pth')
    curve = accuracies(work)
    if not curve or curve[-1]['epoch'] < runner.max_epochs:  # killed between the last checkpoint and the test
        found = runner.val()
        curve.append(dict(epoch=runner.max_epochs, top1=found['accuracy/top1'], choosing=found['accuracy/choosing']))
    return dict(curve=curve, **curve[-1], images=runner.max_epochs * len(runner.train_dataloader.dataset),
                parameters=sum(p.numel() for p in getattr(model, 'backbone', model).parameters()))


def accuracies(work: Path) -> list[dict[str, float]]:
    """What the tests during a training gave, in percent, by epoch.

    A resumed training has several logs, and lacks a test if it was killed between the checkpoint and the test.
    """
    lines = [json.loads(line) for path in sorted(work.glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines()]
    tests = {line['step']: dict(epoch=line['step'], top1=line['accuracy/top1'], choosing=line['accuracy/choosing'])
             for line in lines if 'accuracy/top1' in line}
    return [tests[epoch] for epoch in sorted(tests)]


def save(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Save what is missing of a store, and look at what it holds."""
    config['test_cfg']['store'] = str(folder / 'store')
    runner = build_runner(Config(config, format_python_code=False), TeacherRunner)
    runner.test()
    store = LogitStore(folder / 'store')
    record = store.read_positions(0, range(len(store)))
    return dict(bytes_per_view=store.bytes_per_view, bytes=store.num_bytes(), topk=store.topk,
                views=len(store.complete_views()), mass=float(np.exp(record.log_prob).sum(1).mean()))


def try_out(config: dict[str, Any]) -> dict[str, Any]:
    """Test a teacher."""
    found = build_runner(Config(config, format_python_code=False), TeacherRunner).test()
    return dict(top1=found['accuracy/top1'], choosing=found['accuracy/choosing'], images=0)


def clean(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the names of the photos whose label the teacher supports, and count."""
    init_default_scope('mmpretrain')
    rule, store, dataset = config['clean'], LogitStore(config['store']), DATASETS.build(config['dataset'])
    support = measure_support(store, dataset, store.complete_views(), rule['top'], rule['index'])
    kept = keep_samples(support, rule['rule'])
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    names = [sample['sample_key'] for sample, keep in zip(samples, kept, strict=True) if keep]
    (folder / 'kept.txt').write_text(''.join(f'{name}\n' for name in names))
    wrong = np.array(['true_label' in sample for sample in samples])
    return dict(kept=int(kept.sum()), wrong=int(wrong.sum()), wrong_kept=int((wrong & kept).sum()))


def speed(config: dict[str, Any]) -> dict[str, Any]:
    """Parameters of networks, and images per second and core in eager PyTorch, by processor time; they take turns."""
    init_default_scope('mmpretrain')
    batch = torch.randn(config['speed']['batch'], 3, photos.SIZE, photos.SIZE)
    models = {name: MODELS.build(model).eval() for name, model in config['speed']['models'].items()}
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    for model in models.values():
        if hasattr(getattr(model, 'backbone', None), 'fuse'):
            model.backbone.fuse()

    def step(model: nn.Module) -> float:
        start = time.process_time()
        with torch.inference_mode():
            model(batch, mode='tensor')
        return time.process_time() - start

    found = compare({name: partial(step, model) for name, model in models.items()}, config['speed']['repeats'])
    return dict(parameters=parameters, images_per_second={
        name: len(batch) / row['median_s'] for name, row in found.items()})
