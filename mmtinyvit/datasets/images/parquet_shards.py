"""Parquet files with images in them, as Hugging Face's datasets have them, written once as WebDataset's tar shards.

A parquet file is read by the group of rows, which is too much for one image at a random place. Here each image becomes
a member of a tar file, whose bytes :mod:`.index` can point at.
"""
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

from ...errors import UserError

__all__ = ['ShardSummary', 'convert_parquet']

_ROWS_AT_ONCE = 32  # images that are held beside the group of rows
_SIGNATURES = {'.jpg': rb'\xff\xd8\xff', '.png': rb'\x89PNG\r\n\x1a\n', '.bmp': b'BM', '.webp': b'RIFF....WEBP',
               '.tif': rb'II\*\0|MM\0\*'}


class ShardSummary(NamedTuple):
    """What was converted.

    Attributes:
        num_images: All images in the shards.
        num_shards: Number of shards.
        num_written: Shards that were not there before.
        num_unknown: Images written now of which no format is known by its first bytes; they are called ``.jpg``.
        num_unlabelled: Images written now without a label.
        classes: The file with the class names in label order, if the parquet files name them.
    """
    num_images: int
    num_shards: int
    num_written: int
    num_unknown: int
    num_unlabelled: int
    classes: Path | None


def convert_parquet(files: Sequence[str | os.PathLike], out: str | os.PathLike, name: str, image: str = 'image',
                    label: str | None = None, samples_per_shard: int = 10_000,
                    on_progress: Callable[[int, int], None] = lambda *_: None) -> ShardSummary:
    """Write the shards ``NAME-000000.tar`` and so on, each with so many rows of the files in their order.

    A sample is called by its row, counted through all files: ``000000017.jpg``, named after the format that its bytes
    are in, and ``000000017.cls`` if it has a label. A shard appears under its name only when it is complete; those that
    are there are not written again, as long as ``NAME.json`` beside them describes the same files. Processes may share
    a folder. Memory is bounded by what pyarrow needs for one group of rows, about twice its size.

    Args:
        files: Parquet files, all with the same columns.
        out: Folder of the shards.
        name: What they are called.
        image: Column of the images: bytes, or a struct with the field ``bytes``.
        label: Column of the labels, integers or text; None takes ``label`` if there is one. Null, an empty text and
            a negative number, which is how Hugging Face's datasets write that there is none, are no label.
        samples_per_shard: Rows in a shard.
        on_progress: Called with the rows that are done, and their number.

    Raises:
        UserError: pyarrow is missing, a file cannot be read or written, a column or an image is missing, or the folder
            holds shards of other files, or of files that were replaced since.
    """
    out, tables = Path(out), [_Table(Path(file), image, label) for file in files]
    total = sum(table.num_rows for table in tables)
    if not total:
        raise UserError('The parquet files hold no row: name those with the images.')
    starts = range(0, total, samples_per_shard)
    written = unknown = unlabelled = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        _agree(out / f'{name}.json', dict(files=[table.described() for table in tables], image=image, label=label,
                                          samples_per_shard=samples_per_shard))
        for number, start in enumerate(starts):
            stop = min(start + samples_per_shard, total)
            path = out / f'{name}-{number:06d}.tar'
            if not path.exists():
                counts = _write_shard(path, start, _rows(tables, start, stop), lambda row: on_progress(row, total))
                written, unknown, unlabelled = written + 1, unknown + counts[0], unlabelled + counts[1]
            on_progress(stop, total)
        names = out / f'{name}_classes.txt'
        if classes := tables[0].class_names():
            with _written(names) as file:
                file.write(''.join(f'{text}\n' for text in classes).encode())
    except OSError as error:
        raise UserError(f'The shards cannot be written to {out} ({error.strerror or error}): free the disk, or choose '
                        'another folder; the same command goes on from here.') from error
    return ShardSummary(total, len(starts), written, unknown, unlabelled, names if classes else None)


class _Table:
    """A parquet file and the columns that are read from it."""

    def __init__(self, path: Path, image: str, label: str | None) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UserError(f'Reading parquet files needs pyarrow ({error}): pip install '
                            '"mmtinyvit[parquet]".') from error
        self.path, self._errors = path, (pyarrow.ArrowException, OSError)
        self._open = lambda: pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
        try:
            with open(path, 'rb') as raw, self._open() as file:  # and no longer: a set may have a thousand files
                self._schema = file.schema_arrow
                self._group_rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                raw.seek(-8 - file.metadata.serialized_size, os.SEEK_END)  # 8: its length and the magic number
                self._footer = hashlib.sha256(raw.read()).hexdigest()
        except self._errors as error:
            raise self._unreadable(error) from error
        self.num_rows = sum(self._group_rows)
        types, kinds = pyarrow.types, {field.name: field.type for field in self._schema}
        kinds = {name: kind.value_type if types.is_dictionary(kind) else kind for name, kind in kinds.items()}
        if missing := {image, label or image} - kinds.keys():
            raise UserError(f'{path} has no column {min(missing)}, but {", ".join(kinds)}: name the right one with '
                            '--image or --label.')
        kind = kinds[image]
        self._nested = types.is_struct(kind) and kind.get_field_index('bytes') >= 0
        values = kind.field('bytes').type if self._nested else kind
        if not (types.is_binary(values) or types.is_large_binary(values) or types.is_null(values)):
            raise UserError(f'The column {image} of {path} is of type {kind}, which holds no bytes of an image: name '
                            'the right one with --image.')
        self.image, self.label = image, label or ('label' if 'label' in kinds else None)
        if self.label:
            kind = kinds[self.label]
            if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
                raise UserError(f'The column {self.label} of {path} is of type {kind}, which is no class number or '
                                'name: name the right one with --label.')

    def described(self) -> list:
        """What the file is, as plain JSON: the footer has sizes and ranges; other labels may change the time alone."""
        status = self.path.stat()
        return [self.path.name, status.st_size, self.num_rows, self._footer, status.st_mtime_ns]

    def rows(self, start: int, stop: int) -> Iterator[tuple[bytes, int | str | None]]:
        """Image and label of the rows from ``start`` to ``stop``."""
        ends = list(accumulate(self._group_rows))
        groups = [group for group, end in enumerate(ends) if start < end and end - self._group_rows[group] < stop]
        row = ends[groups[0]] - self._group_rows[groups[0]]
        columns = [f'{self.image}.bytes' if self._nested else self.image, *([self.label] if self.label else [])]
        try:
            with self._open() as file:
                for batch in file.iter_batches(_ROWS_AT_ONCE, groups, columns, use_threads=False):
                    images = batch.column(self.image)
                    images = images.field('bytes') if self._nested else images
                    labels = batch.column(self.label).to_pylist() if self.label else [None] * len(images)
                    for place, label in enumerate(labels):
                        if start <= row < stop:
                            yield self._sample(row, images[place].as_py(), label)
                        row += 1
        except self._errors as error:
            raise self._unreadable(error) from error

    def _sample(self, row: int, data: bytes | None, label: int | str | None) -> tuple[bytes, int | str | None]:
        if not data:
            raise UserError(f'Row {row} of {self.path} has no bytes in the column {self.image}: get the files that '
                            'have the images in them, not their paths alone.')
        return data, None if label in (None, '') or (isinstance(label, int) and label < 0) else label

    def class_names(self) -> list[str]:
        """What Hugging Face's datasets call the labels; empty if they do not say."""
        try:
            described = json.loads(self._schema.metadata[b'huggingface'])['info']['features'][self.label]['names']
            return described if all(name.isprintable() for name in described) else []  # they are written one a line
        except (AttributeError, KeyError, TypeError, ValueError):
            return []

    def _unreadable(self, error: Exception) -> UserError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return UserError(f'{self.path} cannot be read as a parquet file ({reason}): fetch it again.')


def _rows(tables: list[_Table], start: int, stop: int) -> Iterator[tuple[bytes, Any]]:
    """The rows from ``start`` to ``stop`` of all tables, one after the other."""
    first = 0
    for table in tables:
        begin, end = max(start - first, 0), min(stop - first, table.num_rows)
        if begin < end:
            yield from table.rows(begin, end)
        first += table.num_rows


def _agree(path: Path, asked: dict[str, Any]) -> None:
    """The shards in the folder must be of the same files, cut in the same way; ``path`` says of which."""
    if not path.exists():
        with _written(path) as file:
            file.write(json.dumps(asked).encode())
    try:
        recorded = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f'{path} is damaged or none of ours, so that nobody knows of which files the shards beside it '
                        'are: choose another --name or folder, or remove it and them.') from error
    if recorded != asked:
        raise UserError(f'{path.parent} holds shards of other files, of files that were replaced since, or of another '
                        f'size or columns, as {path.name} says: choose another --name or folder, or remove them; if '
                        f'the same files were only fetched again, remove {path.name} alone.')


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete; the same one in several processes at once, if need be."""
    temporary = path.with_name(f'.{path.name}.{uuid4().hex}.tmp')
    try:
        with open(temporary, 'xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            if not path.exists():  # else another process was first, and removed this one's
                raise
        for left in path.parent.glob(f'.{escape(path.name)}.*.tmp'):  # by killed processes
            left.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)


def _write_shard(path: Path, start: int, rows: Iterator[tuple], on_row: Callable[[int], None]) -> tuple[int, int]:
    """Write one shard; returns how many images are of no known format, and how many have no label."""
    unknown = unlabelled = 0
    with _written(path) as file, tarfile.open(fileobj=file, mode='w', format=tarfile.GNU_FORMAT) as archive:
        for row, (data, label) in enumerate(rows, start):
            suffix = _suffix(data)
            unknown += suffix is None
            unlabelled += label is None
            _add(archive, f'{row:09d}{suffix or ".jpg"}', data)
            if label is not None:
                _add(archive, f'{row:09d}.cls', str(label).encode())
            on_row(row)
    return unknown, unlabelled


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _suffix(data: bytes) -> str | None:
    return next((suffix for suffix, signature in _SIGNATURES.items() if re.match(signature, data, re.DOTALL)), None)
