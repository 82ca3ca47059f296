"""Convert parquet files with images in them, as Hugging Face's hub has them, into WebDataset's tar shards, once.

    mmtinyvit shards 'data/w21-p/*.parquet' --out data/w21-p-shards
    mmtinyvit index data/w21-p-shards --check

Needs pyarrow: pip install "mmtinyvit[parquet]". The same command goes on after an interruption.
"""
import argparse
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmtinyvit.errors import UserError

from .tables import fact_table, print_tables

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: the same command goes on from here.'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Convert parquet files into tar shards.')
    parser.add_argument('source', nargs='+', help='folders with parquet files, at any depth, files or patterns')
    parser.add_argument('--out', type=Path, required=True, help='folder for the shards')
    parser.add_argument('--name', help='what the shards are called (default: as the folder)')
    parser.add_argument('--image', default='image', metavar='COLUMN', help='images (default: %(default)s)')
    parser.add_argument('--label', metavar='COLUMN', help='labels (default: label, if there is such a column)')
    parser.add_argument('--samples-per-shard', type=int, default=10_000, metavar='N', help='default: %(default)s')
    return parser


def find_files(sources: list[str]) -> list[Path]:
    """The parquet files, in the order of their names, each once: a hub's cache links one file from several snapshots.

    Raises:
        UserError: A source holds none.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        here = Path(source).rglob('*.parquet') if Path(source).is_dir() else map(Path, glob(source))
        if not (files := [path.absolute() for path in here if path.is_file()]):
            raise UserError(f'{source} is no parquet file, nor a folder or pattern with any: name the files to '
                            'convert.')
        for path in files:
            real = path.resolve()
            found[real] = min(path, found.get(real, path))
    return sorted(found.values())


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.samples_per_shard < 1:
        raise UserError(f'--samples-per-shard {args.samples_per_shard} must be at least 1.')
    from mmtinyvit.datasets.images.parquet_shards import convert_parquet  # seconds: not for --help

    files = find_files(args.source)
    columns = (TextColumn('Converting'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task('', total=None)
        summary = convert_parquet(files, args.out, args.name or args.out.resolve().name, args.image, args.label,
                                  args.samples_per_shard,
                                  lambda done, total: progress.update(task, completed=done, total=total))
    unknown, unlabelled = summary.num_unknown, summary.num_unlabelled
    print_tables(fact_table({
        'folder': args.out, 'images': summary.num_images,
        'shards': f'{summary.num_shards:,}, of them {summary.num_written:,} written now',
        'of no known format, called .jpg': f'{unknown:,}, for mmtinyvit index --check' if unknown else None,
        'without a label': f'{unlabelled:,}, written without .cls' if unlabelled else None,
        'class names, for --classes': summary.classes}))
