"""Of gpu.py: a few steps of a distillation by the real Runner, on the device and on the CPU."""
import argparse
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from gpu_settings import Settings
from harness import report
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from training import arm, save_store, write_photos

from mmtinyvit.engine.hooks import HostMemoryHook

__all__ = ['step']


def step(settings: Settings) -> bool:
    """Five steps of a distillation by the real Runner in each precision, against the CPU's; what waits in a step."""
    size = 224 if settings.device == 'cuda' else 64
    args = argparse.Namespace(images=16, batch_size=8, classes=1000, topk=10, size=size)
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder, 'photos'), args.images)
        save_store(args, root, Path(folder))

        def start() -> Runner:
            torch.manual_seed(0)
            return arm('stored', args, root, Path(folder), 0)

        wanted = train(start(), 'cpu', None)
        rows = {}
        limits = {None: 1e-3, 'bfloat16': .05, 'float16': .05}
        for precision, limit in limits.items():
            if precision is not None and settings.device == 'cpu':
                continue  # --amp needs a GPU
            found = train(start(), settings.device, precision)
            error = max(abs(a - b) / a for a, b in zip(wanted, found, strict=True))
            rows[precision or 'float32'] = {'first loss': found[0], 'last loss': found[-1],
                                            'relative error': f'{error:.1e}', 'right': error <= limit}
        rows['HostMemoryHook is off'] = {'right': settings.device == 'cpu' or not host_memory_acts(start())}
        report(f'{len(wanted)} steps of a distillation on {settings.device}, against the CPU', rows, settings.out)
        if settings.device == 'cuda':
            waits(start(), settings)
        else:
            print('What waits for the GPU in a step is counted on a GPU.')
    return all(row['right'] for row in rows.values())


def batches(runner: Runner, number: int = 5) -> Iterator[dict]:
    runner.train_loop.run_epoch()  # sets the view; its rate is so small that nothing is learned
    first = next(iter(runner.train_dataloader))
    for _ in range(number):
        yield {name: list(value) for name, value in first.items()}


def train(runner: Runner, device: str, precision: str | None) -> list[float]:
    """The losses of a few steps on one batch, with a rate that is large enough to learn it."""
    torch.manual_seed(0)
    wrapper = runner.optim_wrapper
    every = batches(runner)
    first = next(every)
    runner.model.to(device)
    optimizer = torch.optim.AdamW(runner.model.parameters(), lr=1e-4)
    if precision is not None:
        wrapper = AmpOptimWrapper(optimizer=optimizer, dtype=precision,
                                  **(dict(loss_scale='dynamic') if precision == 'float16' else {}))
    else:
        wrapper.optimizer = optimizer
    runner.model.train()
    with deterministic():
        return [runner.model.train_step(data, wrapper)['loss'].item() for data in [first, *every]]


@contextmanager
def deterministic() -> Iterator[None]:
    """TF32 off, as on the CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def host_memory_acts(runner: Runner) -> bool:
    """Whether HostMemoryHook changes anything for a model on the GPU."""
    hook = HostMemoryHook()
    hook.before_run(runner)
    acted = hook._before is not None
    hook.after_run(runner)
    return acted


def waits(runner: Runner, settings: Settings) -> None:
    """Where a step waits for the GPU: each such call is a line of some file."""
    first = next(batches(runner))
    runner.model.train()
    runner.model.train_step(first, runner.optim_wrapper)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        runner.model.train_step({name: list(value) for name, value in first.items()}, runner.optim_wrapper)
    torch.cuda.set_sync_debug_mode('default')
    places = [f'{Path(each.filename).name}:{each.lineno}' for each in found if 'synchroniz' in str(each.message)]
    times = {place: {'times': places.count(place)} for place in dict.fromkeys(places)}
    report('what waits for the GPU in a step', times or {'nothing': {'times': 0}}, settings.out)
