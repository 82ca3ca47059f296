"""What every benchmark here shares: interleaved runs, medians, peak memory, the machine line, a table and a JSON file.

    from harness import compare, report
    results = compare({'ours': ours, 'timm': theirs}, repeats=15)
    report('eval, 21m, 224 px', results, json_file=args.json)

:mod:`mmtinyvit.apis.timing` has the clock itself.
"""
import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mmtinyvit.apis.timing import compare, machine

__all__ = ['compare', 'machine', 'peak_bytes', 'report']


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
