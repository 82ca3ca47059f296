"""What every benchmark here shares: interleaved runs, medians, peak memory, the machine line, a table and a JSON file.

    from harness import compare, report
    results = compare({'ours': ours, 'timm': theirs}, repeats=15)
    report('eval, 21m, 224 px', results, json_file=args.json)
"""
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ['compare', 'machine', 'peak_bytes', 'report']


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


def peak_bytes(function: Callable[[], object]) -> int:
    """Most tensor memory that ``function`` held at once, in bytes, beyond what was allocated before it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        function()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def machine() -> str:
    """One line that says on what the numbers were measured."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        device = f'{models[0] if models else platform.processor()}, {os.cpu_count()} cores'
    return (f'{device}; {torch.get_num_threads()} threads; torch {torch.__version__}, Python '
            f'{platform.python_version()}')


def report(title: str,
           results: Mapping[str, Mapping],
           json_file: str | Path | None = None,
           **facts: object) -> None:
    """Print a Markdown table, and add it to a JSON file that holds a list of such tables.

    Args:
        title: What was measured.
        results: Rows by name; a value named ``*_s`` is shown in milliseconds, ``*_bytes`` in MiB.
        json_file: File to extend; created if missing.
        **facts: Settings to record beside the numbers.
    """
    columns = list(dict.fromkeys(column for row in results.values() for column in row))
    print(f'\n{title} ({machine()})\n')
    print('| ', *(f' | {_heading(column)}' for column in columns), ' |', sep='')
    print('|---' + '|---:' * len(columns) + '|')
    for name, row in results.items():
        print(f'| {name}', *(f' | {_cell(column, row.get(column))}' for column in columns), ' |', sep='', flush=True)
    if json_file is None:
        return
    path = Path(json_file)
    tables = json.loads(path.read_text()) if path.exists() else []
    tables.append(dict(title=title, machine=machine(), **facts, results={k: dict(v) for k, v in results.items()}))
    new = path.with_name(f'.{path.name}.new')
    new.write_text(json.dumps(tables, indent=2) + '\n')
    new.replace(path)  # whoever is killed here leaves the tables that were there


def _heading(column: str) -> str:
    if column.endswith('_s'):
        return f'{column[:-2]} (ms)'
    return f'{column[:-6]} (MiB)' if column.endswith('_bytes') else column


def _cell(column: str, value: object) -> str:
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'NO'
    if column.endswith('_s'):
        return f'{1e3 * value:.2f}'
    if column.endswith('_bytes'):
        return f'{value / 2**20:.1f}'
    if isinstance(value, float):
        return f'{value:.3f}' if abs(value) < 100 else f'{value:,.0f}'
    return f'{value:,}' if isinstance(value, int) else str(value)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
