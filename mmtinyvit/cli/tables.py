"""The tables that commands end with: they fit 80 columns, and a number in them is never cut."""
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from mmtinyvit.store.layout import spell_numbers

__all__ = ['fact_table', 'file_table', 'print_tables', 'row_table', 'size']

_WIDE = 4096  # more than any row: what is written for programs is not folded


def print_tables(*tables: RenderableType) -> None:
    """Print tables: folded into the width of a terminal; in a pipe or file as wide as they are, for ``grep``."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    for table in tables:
        console.print(table)


def row_table(*headers: str, words: Collection[str] = (), **options: Any) -> Table:
    """A table with a header. Columns that ``words`` names fold in a narrow terminal; numbers keep their width."""
    columns = (Column(header, overflow='fold') if header in words else
               Column(header, no_wrap=True, justify='right') for header in headers)
    return Table(*columns, title_justify='left', **options)


def fact_table(facts: Mapping[str, Any]) -> Table:
    """A table of names and values; lists of numbers are spelled, and values that are empty or None are left out."""
    table = Table(Column(no_wrap=True), Column(overflow='fold'), show_header=False)
    for name, value in facts.items():
        if isinstance(value, list):
            value = spell_numbers(value)
        if value not in (None, ''):
            table.add_row(name, Text(f'{value:,}' if type(value) is int else str(value)))  # Text: keys hold brackets
    return table


def file_table(path: Path, state_dict: Mapping[str, Any], **more: str) -> Table:
    """What a converter ends with: the file, ``more``, and its size."""
    return fact_table({
        'file': path, **{name.replace('_', ' '): value for name, value in more.items()}, 'tensors': len(state_dict),
        'parameters': sum(tensor.numel() for tensor in state_dict.values()), 'size': size(path.stat().st_size)})


def size(num_bytes: int) -> str:
    return f'{num_bytes / 2**30:,.1f} GiB' if num_bytes >= 2**30 else f'{num_bytes / 2**20:,.2f} MiB'
