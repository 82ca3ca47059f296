"""Write scikit-learn's digits as image files, class per folder.

    python tools/dataset_converters/digits.py work_dirs/demo/digits
"""
import argparse

from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.datasets.digits import write_digits


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write scikit-learn's digits as image files.")
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--size', type=int, default=32, help='side of the images in pixels (default: 32)')
    parser.add_argument('--val', type=int, default=50, metavar='N', help='images of each digit in val (default: 50)')
    parser.add_argument('--test', type=int, default=0, metavar='N', help='images of each digit in test (default: 0)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    meta = write_digits(args.out, args.size, args.val, args.test)
    table = Table('folder', 'pixels', *meta['images'])
    table.add_row(args.out, f'{args.size} x {args.size}', *(f'{count:,}' for count in meta['images'].values()))
    Console().print(table)


if __name__ == '__main__':
    run_command(main)
