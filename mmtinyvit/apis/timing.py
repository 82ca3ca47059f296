"""Times of functions against one another, and the line that says on what they were measured."""
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

__all__ = ['compare', 'machine']


def compare(functions: Mapping[str, Callable[[], object]], repeats: int = 9, warmup: int = 2,
            pause: float = 0.) -> dict[str, dict]:
    """Time functions against one another.

    Each round runs every function once, in turn, the order rotating, so that a slow moment of the machine hits all of
    them; ratios are taken within a round.

    Args:
        functions: What to run, by name. The first is the one the others are measured against. One that gives back a
            float has measured itself: these seconds count, for example of processor time in another process.
        repeats: Timed rounds.
        warmup: Rounds before the clock starts.
        pause: Seconds to wait before each call.

    Returns:
        By name: ``median_s`` and ``min_s`` (seconds a call), and ``ratio``, the median of its time over the first
        one's in the same round: 1.6 means that it takes 1.6 times as long.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            _synchronize()
            start = time.perf_counter()
            took = functions[name]()
            _synchronize()
            if turn >= 0:
                seconds[name].append(took if isinstance(took, float) else time.perf_counter() - start)
    reference = seconds[names[0]]
    return {
        name: dict(
            median_s=statistics.median(values),
            min_s=min(values),
            ratio=statistics.median(value / base for value, base in zip(values, reference, strict=True)))
        for name, values in seconds.items()
    }


def machine(name: str | None = None) -> str:
    """One line that says on what the numbers were measured.

    Args:
        name: Of the device as torch calls it, such as ``'cpu'`` or ``'cuda:1'``; None for the GPU, if there is one.
    """
    if torch.cuda.is_available() and (name or 'cuda').startswith('cuda'):
        device = torch.cuda.get_device_name(name)
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        device = f'{models[0] if models else platform.processor()}, {os.cpu_count()} cores'
    return (f'{device}; {torch.get_num_threads()} threads; torch {torch.__version__}, Python '
            f'{platform.python_version()}')


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
