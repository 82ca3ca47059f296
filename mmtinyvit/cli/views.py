"""Another name of `tools/logit_store.py gallery` for the store that a config names.

    python tools/browse_views.py configs/demo/distill.py --out views.png --samples 6 --views 0:4
"""
import argparse
import sys

from mmtinyvit.cli.command import add_common_flags, parse_range, positive, run_command
from mmtinyvit.cli.store_commands import gallery


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Another name of tools/logit_store.py gallery.')
    add_common_flags(parser)
    parser.add_argument('--out', default='views.png', help='picture to write (default: views.png)')
    parser.add_argument('--samples', type=positive, default=6, dest='rows', help='how many samples (default: 6)')
    parser.add_argument('--index', type=int, nargs='+', help='these samples instead')
    parser.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: the first four)')
    parser.add_argument('--top', type=positive, default=3, help='classes to name (default: 3)')
    parser.set_defaults(store=None, hardest=False, label_index=None, classes=None, json=False)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print('tools/browse_views.py is another name of tools/logit_store.py gallery: use that.', file=sys.stderr)
    gallery(args)


if __name__ == '__main__':
    run_command(main)
