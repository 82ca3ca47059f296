"""Download published checkpoints: by name, or all that match a pattern.

    mmtinyvit download --list
    mmtinyvit download mmtinyvit-5m_in21k-distill-pre_3rdparty_in1k
    mmtinyvit download 'mmtinyvit-*m_distill' --folder checkpoints

Started again after an interruption, it goes on where it stopped. A file counts as downloaded when its checksum is right
and it can be read without running code from it. Where the publisher names no checksum, that of the first download is
recorded beside the file, for `sha256sum --check` and for later downloads.
"""
import argparse
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from mmtinyvit.zoo.download import checkpoint_folder, recorded_sha256
from mmtinyvit.zoo.index import Entry, find_entries, find_entry

from .tables import print_tables, row_table

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: what has arrived is kept; the same command goes on.'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Download published checkpoints.')
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help='a name, or a pattern with wildcards; any ending matches a pattern')
    parser.add_argument('--list', action='store_true', help='only list them (all, if none is named)')
    parser.add_argument('--folder', help=f'where to keep them (default: {checkpoint_folder()}; MMTINYVIT_CACHE moves '
                        'it)')
    parser.add_argument('--mirror', metavar='URL', help='address of a folder that has the same files')
    return parser


def chosen(names: list[str]) -> list[Entry]:
    """The named entries, each once, in order. Raises :class:`UserError` for a name that matches none."""
    found = [entry for name in names for entry in (find_entries(name) if any(c in name for c in '*?[') else None)
             or [find_entry(name)]]
    return list(dict.fromkeys(found if names else find_entries()))


def listing(entries: list[Entry]) -> Any:
    table = row_table('name', 'parameters', 'MACs', 'top-1', words=('name', ), box=None, pad_edge=False)
    for entry in entries:
        table.add_row(entry.name, f'{entry.parameters / 1e6:.1f} M', f'{entry.macs / 1e9:.1f} G',
                      '' if entry.top1 is None else f'{entry.top1:.1f}')
    table.caption = 'Published by others; the accuracies on ImageNet-1K are theirs.'
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.names and not args.list:
        parser.error('name a model, or --list them')
    entries = chosen(args.names)
    if args.list:
        print_tables(listing(entries))
        return
    from mmtinyvit.models.checkpoints import fetch_weights  # torch and mmpretrain, which a list does not need

    table = row_table('name', 'file', 'MiB', 'SHA-256', words=('name', 'file', 'SHA-256'))
    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for entry in entries:
            task = progress.add_task(entry.file_name, total=None)
            path = fetch_weights(entry.url, args.folder, args.mirror, lambda done, total, task=task: progress.update(
                task, completed=done, total=total))
            size = path.stat().st_size
            progress.update(task, completed=size, total=size)
            published = 'as published' if entry.sha256 else 'recorded, none is published'
            table.add_row(entry.name, str(path), f'{size / 2**20:.1f}', f'{recorded_sha256(path)[:12]} ({published})')
    print_tables(table)
