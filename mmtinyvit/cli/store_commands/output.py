"""What the commands print: tables or one JSON object, and progress bars on a terminal."""
import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from mmtinyvit.store import Finding

from ..tables import print_json, print_tables

__all__ = ['emit', 'watched', 'watched_units']


def emit(args: argparse.Namespace, result: dict[str, Any], *tables: Table) -> None:
    """The result as one JSON object, or as tables."""
    if args.json:
        print_json(result)
    else:
        print_tables(*tables)


def watched(findings: Iterable[Finding]) -> Iterable[Finding]:
    """The findings, with a progress bar on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task('checking')
        for finding in findings:
            progress.update(task, completed=finding.done, total=finding.total)
            yield finding


def watched_units(units: Sequence) -> Iterable:
    """The units of work (shards, views), with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(units, 'working', console=console, disable=not console.is_terminal, transient=True)
