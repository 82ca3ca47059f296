"""Draw views with what the teacher said about them, from the store that a config names.

    mmtinyvit views configs/demo/distill.py --out views.png --samples 6 --views 0:4
"""
import argparse
from collections.abc import Sequence

from .command import add_common_flags, parse_range, positive
from .store_commands import gallery

__all__ = ['build_parser', 'main']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Draw views with what the teacher said about them.')
    add_common_flags(parser)
    parser.add_argument('--out', default='views.png', help='picture to write (default: views.png)')
    parser.add_argument('--samples', type=positive, default=6, dest='rows', help='how many samples (default: 6)')
    parser.add_argument('--index', type=int, nargs='+', help='these samples instead')
    parser.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: the first four)')
    parser.add_argument('--top', type=positive, default=3, help='classes to name (default: 3)')
    parser.set_defaults(store=None, hardest=False, label_index=None, classes=None, json=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    gallery(args)
