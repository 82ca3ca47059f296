"""Scatter the demo's digits over larger images: detection data in COCO's layout.

    python tools/dataset_converters/digit_canvases.py work_dirs/demo/digits work_dirs/demo/canvases
"""
import argparse

from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.datasets.digit_canvases import write_canvases


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Scatter digits over larger images, with boxes.')
    parser.add_argument('digits', help='folder that tools/dataset_converters/digits.py wrote')
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--train', type=int, default=400, metavar='N', help='images to train on (default: 400)')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='images to test on (default: 100)')
    parser.add_argument('--size', type=int, default=96, help='side of the images in pixels (default: 96)')
    parser.add_argument('--seed', type=int, default=0, help='of the places (default: 0)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    meta = write_canvases(args.digits, args.out, args.train, args.val, args.size, args.seed)
    table = Table('folder', 'pixels', 'split', 'images', 'boxes')
    for split in meta['images']:
        table.add_row(args.out, f'{args.size} x {args.size}', split, f'{meta["images"][split]:,}',
                      f'{meta["boxes"][split]:,}')
    Console().print(table)


if __name__ == '__main__':
    run_command(main)
