"""Of gpu.py: whole flows, in which the GPU should never wait."""
import argparse
import tempfile
import time
from pathlib import Path

import saving as records
import torch
from gpu_settings import Settings
from harness import report
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from replay import find_photos
from training import arm, measure, save_store, write_photos

__all__ = ['saving', 'store']


def saving(settings: Settings) -> bool:
    """Saving with a large teacher, its batches in memory: alone, and with all that the engine adds."""
    init_default_scope('mmpretrain')
    args = argparse.Namespace(model=settings.teacher, amp=settings.device == 'cuda', samples=settings.views,
                              batch_size=min(256, settings.views), repeats=settings.repeats, json=settings.out)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / 'made').mkdir()
        photos = find_photos(None, args.batch_size, Path(folder, 'made'))
        seconds = records.saving(args, Path(folder), photos, *settings.loss[1:])
    report(f'{settings.teacher} on {settings.device}', {'the teacher': {'views/s': 1 / seconds}}, settings.out)
    return True


def store(settings: Settings) -> bool:
    """Epochs from a store and from labels in turns, with a real loader; and the GPU's own pace on a batch in memory."""
    _, num_classes, topk = settings.loss
    args = argparse.Namespace(
        images=settings.photos, batch_size=settings.batch_size, classes=num_classes, topk=topk, json=settings.out,
        size=224 if settings.device == 'cuda' else 64)
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder, 'photos'), args.images)
        save_store(args, root, Path(folder))
        arms = {name: arm(name, args, root, Path(folder), settings.workers) for name in ('labels', 'stored')}
        measure(f'{settings.workers} workers, {settings.device}', arms, args, args.images, settings.repeats)
        pace(arms['stored'], settings)
    return True


def pace(runner: Runner, settings: Settings) -> None:
    """How many images a second the device takes when it never waits, and what the loader brings."""
    start = time.perf_counter()
    runner.train_loop.run_epoch()
    whole = settings.photos / (time.perf_counter() - start)
    batch = next(iter(runner.train_dataloader))
    runner.model.train()

    def steps(number: int) -> None:
        for _ in range(number):
            runner.model.train_step({name: list(value) for name, value in batch.items()}, runner.optim_wrapper)
        if settings.device == 'cuda':
            torch.cuda.synchronize()

    steps(2)
    start = time.perf_counter()
    steps(8)
    alone = 8 * settings.batch_size / (time.perf_counter() - start)
    start = time.perf_counter()
    for index in range(min(64, settings.photos)):
        runner.train_dataloader.dataset[index]
    core = min(64, settings.photos) / (time.perf_counter() - start)
    report(f'TinyViT-5M on {settings.device}', {
        'with its loader': {'images/s': whole, 'share of the time that the device waits': max(0., 1 - whole / alone)},
        'a batch in memory': {'images/s': alone, 'cores that would feed it': alone / core}}, settings.out)
