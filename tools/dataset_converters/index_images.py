"""List the images of a data set once, so that training starts without scanning 14 million files.

    python tools/dataset_converters/index_images.py data/imagenet21k --classes fall11          # class folders
    python tools/dataset_converters/index_images.py data/imagenet21k --classes fall11 --zip    # n01440764.zip ...

The index, by default DATA_ROOT/images.index, is what mmtinyvit.IndexedImages reads.
"""
import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.datasets.image_index import find_classes, index_images
from mmtinyvit.evaluation.class_map import LAYOUTS, synsets


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write an image index.')
    parser.add_argument('data_root', help='folder that holds one folder or one zip file per class')
    parser.add_argument('--out', help='the index (default: DATA_ROOT/images.index)')
    parser.add_argument('--classes', metavar='LAYOUT', help='classes in label order: one of '
                        f'{", ".join(LAYOUTS)}, or a file with one per line (default: all that are found, sorted)')
    parser.add_argument('--zip', action='store_true', help='the classes are zip files')
    parser.add_argument('--workers', type=int, default=8, help='threads that list classes (default: 8)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = args.out or str(Path(args.data_root, 'images.index'))
    classes = synsets(args.classes) if args.classes else None
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('classes'),
               TextColumn('{task.fields[images]:,} images'), TimeRemainingColumn())
    with Progress(*columns) as progress:
        total = len(classes or find_classes(args.data_root, args.zip))
        task = progress.add_task('Listing', total=total, images=0)
        summary = index_images(args.data_root, out, classes, args.zip, args.workers,
                               lambda done, images: progress.update(task, completed=done, images=images))
    table = Table('index', 'classes', 'images', 'classes without images')
    table.add_row(out, f'{summary.num_classes:,}', f'{summary.num_images:,}', f'{len(summary.empty_classes):,}')
    Console().print(table)


if __name__ == '__main__':
    run_command(main, 'Interrupted: no index was written.')
