"""The tables that commands end with: they fit 80 columns, and a number in them is never cut. Or one JSON object."""
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from mmtinyvit.store.layout import spell_numbers

from .command import printable

__all__ = ['fact_table', 'file_table', 'print_json', 'print_tables', 'row_table', 'size', 'spell_time']

_WIDE = 4096  # more than any row


def print_tables(*tables: Table) -> None:
    """Print tables: in the width of the terminal; in a pipe or file, in 80 columns or what the longest paths need.

    So a narrow terminal shows a path in several lines, and ``grep`` finds it in one.
    """
    plain = dict(markup=False, emoji=False)  # paths may hold [b] or :cat:
    console = Console(**plain)
    if not console.is_terminal:
        wide = Console(width=_WIDE, **plain)
        for table in tables:
            least, most = Measurement.get(wide, wide.options, table)
            console.width = max(console.width, most if table.show_header else least)
    for table in tables:
        console.print(table)


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object; like the tables, it ends quietly where ``head`` has seen enough."""
    Console().out(json.dumps(result, indent=2), highlight=False)


def row_table(*headers: str, words: Collection[str] = (), **options: Any) -> Table:
    """A table with a header. Columns that ``words`` names fold in a narrow terminal; numbers keep their width."""
    columns = (Column(header, overflow='fold') if header in words else
               Column(header, no_wrap=True, justify='right') for header in headers)
    return Table(*columns, title_justify='left', **options)


def fact_table(facts: Mapping[str, Any]) -> Table:
    """A table of names and values: of numbers in a list, how many and which; what is empty or None is left out."""
    spelled = {name: _spell(value) if isinstance(value, list) else value for name, value in facts.items()}
    shown = {name: value for name, value in spelled.items() if value not in (None, '')}
    names = Column(no_wrap=True, min_width=max(map(len, shown), default=0))
    table = Table(names, Column(overflow='fold'), show_header=False)
    for name, value in shown.items():
        value = f'{value:,}' if type(value) is int else printable(str(value))
        table.add_row(name, Text(value))  # Text: keys hold brackets
    return table


def _spell(numbers: list[int]) -> str:
    return f'{len(numbers):,} ({spell_numbers(numbers)})' if numbers else 'none'


def file_table(path: Path, state_dict: Mapping[str, Any], **more: str) -> Table:
    """What a converter ends with: the file, ``more``, and its size."""
    return fact_table({
        'file': path, **{name.replace('_', ' '): value for name, value in more.items()}, 'tensors': len(state_dict),
        'parameters': sum(tensor.numel() for tensor in state_dict.values()), 'size': size(path.stat().st_size)})


def size(num_bytes: int) -> str:
    return f'{num_bytes / 2**30:,.1f} GiB' if num_bytes >= 2**30 else f'{num_bytes / 2**20:,.2f} MiB'


def spell_time(seconds: float) -> str:
    """``'40 s'``, ``'12 minutes'``, ``'3.5 hours'`` or ``'12 days'``."""
    for unit, length, most in (('s', 1, 120), ('minutes', 60, 120 * 60), ('hours', 3600, 48 * 3600)):
        if seconds < most:
            return f'{seconds / length:,.1f} {unit}'
    return f'{seconds / 86400:,.1f} days'
