"""Is this machine ready, does a config fit its data, store and teacher, and what would a run cost?

    mmtinyvit doctor
    mmtinyvit doctor configs/tinyvit/distill_in21k.py --path /data
    mmtinyvit doctor configs/teachers/clip_vit_l14_in21k.py checkpoints/clip_vit_large_patch14_22k_mmtinyvit.pth

The exit status is 0 if all fits and 1 if not. Nothing is changed.
"""
import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from .command import add_config_options
from .tables import fact_table, print_json, print_tables

__all__ = ['build_parser', 'main']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Check machine, folders and configs; status 1 if something is wrong.')
    parser.add_argument('config', nargs='?', help='config of a training or of a teacher that saves')
    parser.add_argument('checkpoint', nargs='?', help="the teacher's checkpoint, file or URL")
    parser.add_argument('--path', metavar='DIR', help="folder to try out (default: where the config's run writes, or "
                        'the current one)')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_intermixed_args(argv)
    console, found = Console(stderr=True), []
    with console.status('Looking ...'):
        for finding in examine(args):
            found.append(finding)
    good = all(finding.good is not False for finding in found)
    if args.json:
        print_json(dict(good=good, findings=[finding._asdict() for finding in found]))
        return int(not good)
    signs = {True: 'ok  ', None: '-   ', False: 'NO  '}
    print_tables(fact_table({f'{signs[finding.good]}{finding.name}': finding.said for finding in found}))
    return int(not good)


def examine(args: argparse.Namespace) -> Iterator[Any]:
    """All findings, see :mod:`mmtinyvit.cli.checkup`. Raises :class:`UserError` for a config that is none."""
    cfg = None
    if args.config:
        from .runner import load_config  # seconds, and the config may be wrong: before anything is measured
        cfg = load_config(args)
    from .checkup.machine import check_folder, check_machine

    yield from check_machine()
    if cfg is None:
        yield from check_folder(args.path or '.')
        return
    from .checkup.recipe import check_recipe, store_place

    yield from check_folder(args.path or store_place(cfg))
    yield from check_recipe(cfg)
