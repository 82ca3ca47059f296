"""List the images of a data set once, so that training starts without scanning 14 million files.

    mmtinyvit index data/imagenet21k                         # folders, or n01440764.tar ...
    mmtinyvit index data/winter21_whole.tar --check          # tars in a tar, all decoded once
    mmtinyvit index s3://bucket/shards --out shards.index    # WebDataset shards

The index, by default DATA_ROOT/images.index or ARCHIVE.index, is what mmtinyvit.IndexedImages reads; docs/en/data.md
has all layouts.
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmtinyvit.errors import UserError
from mmtinyvit.store.folders import is_url

from .command import positive
from .tables import fact_table, print_tables

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: the same command goes on from here.'

# As in mmtinyvit.datasets.images, which takes seconds to import.
LAYOUTS = ('folders', 'class-archives', 'archive', 'shards')
MISSING_CLASSES = ('refuse', 'keep', 'drop')
LABEL_LAYOUTS = ('in1k', 'in12k', 'fall11', 'fall11-ms', 'fall11-google', 'fall11-p', 'winter21', 'winter21-p')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Write an image index.')
    parser.add_argument('data_root', help='folder or URL that holds the images in folders or archives (.zip, .tar), '
                        'or one archive')
    parser.add_argument('--out', help='the index (default: images.index in DATA_ROOT, or ARCHIVE.index beside it)')
    parser.add_argument('--layout', choices=LAYOUTS, help='default: found out')
    parser.add_argument('--zip', action='store_true', help='the same as --layout class-archives')
    parser.add_argument('--match', metavar='PATTERN', help="which archives, such as 'train-*.tar' or '*/*.tar' "
                        '(default: those in DATA_ROOT itself)')
    parser.add_argument('--labels', metavar='SOURCE', help='class (folder or archive), cls (member beside the image), '
                        'json:FIELD (field of such a member), none, or a file of `key label` lines '
                        '(default: found out)')
    parser.add_argument('--classes', metavar='LAYOUT', help='classes in label order: one of '
                        f'{", ".join(LABEL_LAYOUTS)}, or a file with one per line (default: all that are found, '
                        'sorted)')
    parser.add_argument('--missing-classes', choices=MISSING_CLASSES, default='refuse', help='of --classes: keep their '
                        'numbers, or drop them (default: refuse)')
    parser.add_argument('--check', nargs='?', const='cv2', choices=['cv2', 'pillow'], metavar='DECODER',
                        help='decode every image once and leave out what fails, see rejected.txt beside the '
                        'index (cv2, or pillow)')
    parser.add_argument('--workers', type=positive, default=8, help='threads that list and decode (default: 8)')
    return parser


def index_path(args: argparse.Namespace) -> Path:
    """Where the index goes. Raises :class:`UserError` if that is a URL, or none is named and a URL is indexed."""
    if args.out and is_url(args.out):
        raise UserError(f'--out {args.out} is a URL: name a file of this machine, and copy it there when it is '
                        'written.')
    if args.out:
        return Path(args.out)
    if is_url(args.data_root):
        raise UserError(f'{args.data_root} is a URL: name the file of this machine that becomes the index with --out.')
    from mmtinyvit.datasets.images.scan import split_archive  # seconds: not for --help

    folder, archive = split_archive(args.data_root)
    return Path(folder, f'{archive[:-4]}.index' if archive else 'images.index')


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    from mmtinyvit.datasets.images.scan import index_images, rejected_file
    from mmtinyvit.evaluation.class_map import synsets

    out = index_path(args)
    classes = synsets(args.classes) if args.classes else None
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TextColumn('{task.fields[images]:,} images'), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {}

        def show(step: str, done: int, total: int, images: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total, images=images)
            progress.update(tasks[step], completed=done, total=total, images=images)

        summary = index_images(args.data_root, out, classes, 'class-archives' if args.zip else args.layout, args.labels,
                               args.match, args.missing_classes, args.check, args.workers, show)
    rejected = f'{summary.rejected:,}' + f', see {rejected_file(out).name}' * bool(summary.rejected)
    print_tables(fact_table({
        'index': out, 'layout': summary.layout, 'labels from': summary.labels, 'classes': summary.num_classes,
        'classes without images': len(summary.empty_classes), 'images': summary.num_images,
        'other files': ', '.join(f'{count:,} {ending}' for ending, count in summary.others.items()),
        'images left out for want of a label': summary.left_out or None,
        'images that do not decode': rejected if args.check else 'not looked for (--check)'}))
