"""The image index: one memory-mapped file that lists the images of a data set.

ImageNet-21K has 14 million images. Listing its folders takes minutes to hours and the list, as Python objects,
gigabytes in every worker. The index is written once (:func:`index_images`), opens in milliseconds, and its pages are
shared by all workers of a machine.

Layout, little-endian, every section at a multiple of 64 bytes::

    0    magic 'MMTVIDX1', byte position of the header (uint64), size of the header (uint64), SHA-256 of the header
    64   keys          the sample keys as UTF-8 text, one per line, in sample order
         key_starts    (N + 1,) uint64: where each line starts
         labels        (N,) int32
         and for images in zip files:
         offsets (N,) uint64, sizes (N,) uint32, methods (N,) uint8, crcs (N,) uint32, archive_bytes (C,) uint64
    end  header        JSON: format, layout, class names, SHA-256 of the keys, place and length of every section

A sample key is the image's path relative to the data root with forward slashes, ``n01440764/n01440764_1.JPEG``; an
image in ``n01440764.zip`` has the same key as in a folder.
"""
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .archive_listing import IMAGE_SUFFIXES, list_folder, list_zip
from .archive_members import ArchiveMember

__all__ = ['ImageIndex', 'ScanSummary', 'find_classes', 'index_images', 'write_index']

_FORMAT = 1
_MAGIC = b'MMTVIDX1'
_PRELUDE = struct.Struct('<8sQQ32s')
_ALIGN = 64
_KEY_BLOCK = 65_536
_CLASSES_IN_FLIGHT = 256  # bounds the memory of a scan
_ZIP_COLUMNS = {'offsets': '<u8', 'sizes': '<u4', 'methods': '|u1', 'crcs': '<u4'}
_DTYPES = {'keys': '|u1', 'key_starts': '<u8', 'labels': '<i4', **_ZIP_COLUMNS, 'archive_bytes': '<u8'}


class ImageIndex:
    """Read access to an image index. Pickles as its path, so that every worker maps the file itself.

    Args:
        path: The index file.

    Attributes:
        classes: Class names in label order.
        labels: ``(N,)`` int32.
        keys_sha256: SHA-256 of the keys, one per line, in sample order: the identity of the data set's order.

    Raises:
        UserError: The file is missing, truncated, damaged or of another format.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        try:
            with open(self.path, 'rb') as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(f'The image index {self.path} does not exist: write it once with '
                            f'`python tools/dataset_converters/index_images.py DATA_ROOT --out {self.path}`.') from None
        except (OSError, ValueError) as error:
            raise UserError(f'The image index {self.path} cannot be read: {error}.') from error
        header = self._read_header()
        self.classes: tuple[str, ...] = tuple(header['classes'])
        self.zipped: bool = header['layout'] == 'zip'
        self.keys_sha256: str = header['keys_sha256']
        self._columns = {
            name: np.frombuffer(self._map, _DTYPES[name], count, offset)
            for name, (offset, count) in header['sections'].items()
        }
        self.labels: np.ndarray = self._columns['labels']
        self._key_starts = self._columns['key_starts']

    def _read_header(self) -> dict:
        mend = 'write it again with tools/dataset_converters/index_images.py.'
        size = len(self._map)
        if size < _PRELUDE.size or self._map[:7] != _MAGIC[:7]:
            raise UserError(f'{self.path} is not an image index: {mend}')
        magic, start, count, digest = _PRELUDE.unpack_from(self._map)
        if magic != _MAGIC:
            raise UserError(f'The image index {self.path} has format {chr(magic[7])}, this library reads {_FORMAT}: '
                            f'upgrade mmtinyvit, or {mend}')
        text = self._map[start:start + count]
        if start + count != size or hashlib.sha256(text).digest() != digest:
            raise UserError(f'The image index {self.path} is truncated or damaged: {mend}')
        return json.loads(text)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self):
        return ImageIndex, (self.path,)

    def key(self, position: int) -> str:
        """The sample key at ``position``."""
        start, end = self._key_starts[position:position + 2].tolist()
        return self._columns['keys'][start:end - 1].tobytes().decode()

    def keys(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The keys from ``start`` to ``stop``, decoded in blocks: millions in a second."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, _KEY_BLOCK):
            begin, end = self._key_starts[[first, min(first + _KEY_BLOCK, stop)]].tolist()
            yield from self._columns['keys'][begin:end - 1].tobytes().decode().split('\n')

    def member(self, position: int, data_root: str) -> ArchiveMember:
        """Where the image at ``position`` is, in an index of zip files."""
        label = self.labels[position].item()
        values = [self._columns[name][position].item() for name in ('offsets', 'sizes', 'methods', 'crcs')]
        archive = os.path.join(data_root, f'{self.classes[label]}.zip')
        return ArchiveMember(archive, self._columns['archive_bytes'][label].item(), *values)


def write_index(path: str | os.PathLike, classes: Sequence[str], zipped: bool,
                images: Iterable[tuple[Sequence[str], Sequence[ArchiveMember]]]) -> None:
    """Write an index; the file appears under its name only when it is complete.

    Args:
        path: The index file.
        classes: Class names in label order.
        zipped: Whether the images are in per-class zip files.
        images: The keys of each class, in label order, with the members of its zip file if ``zipped``.

    Raises:
        UserError: A key cannot be stored as a line of UTF-8 text, or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    digest, line_bytes = hashlib.sha256(), [np.zeros(1, np.int64)]
    parts = {name: [np.zeros(0, _DTYPES[name])] for name in ('labels', *(_ZIP_COLUMNS if zipped else ()))}
    archive_bytes = np.zeros(len(classes), '<u8')
    try:
        with open(temporary, 'wb') as file:

            def pad() -> int:
                """Fill up to the next multiple of 64 bytes and return that position."""
                file.write(bytes(-file.tell() % _ALIGN))
                return file.tell()

            file.write(bytes(_ALIGN))
            for label, (keys, members) in enumerate(images):
                lines = [_line(key) for key in keys]
                text = b''.join(lines)
                digest.update(text)
                file.write(text)
                line_bytes.append(np.fromiter(map(len, lines), np.int64, len(lines)))
                parts['labels'].append(np.full(len(keys), label, '<i4'))
                if members:
                    archive_bytes[label] = members[0].archive_bytes
                    for name, field in zip(_ZIP_COLUMNS, ('offset', 'size', 'method', 'crc'), strict=True):
                        parts[name].append(np.array([getattr(member, field) for member in members], _DTYPES[name]))
            key_starts = np.concatenate(line_bytes).cumsum()
            columns = dict(key_starts=key_starts.astype('<u8'), **{k: np.concatenate(v) for k, v in parts.items()})
            sections = {'keys': (_ALIGN, int(key_starts[-1]))}
            for name, values in (columns | (dict(archive_bytes=archive_bytes) if zipped else {})).items():
                sections[name] = (pad(), len(values))
                file.write(values)
            start = pad()
            header = json.dumps({
                'format': _FORMAT, 'layout': 'zip' if zipped else 'folder', 'keys_sha256': digest.hexdigest(),
                'sections': sections, 'classes': list(classes)
            }).encode()
            file.write(header)
            file.seek(0)
            file.write(_PRELUDE.pack(_MAGIC, start, len(header), hashlib.sha256(header).digest()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'The image index {path} cannot be written ({error.strerror}): free the disk, or name another '
                        'place with --out.') from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _line(key: str) -> bytes:
    try:
        line = key.encode() + b'\n'
    except UnicodeEncodeError:
        line = b''  # a file name that the file system does not hold as UTF-8
    if line.count(b'\n') != 1:
        raise UserError(f'The file name {key!r} holds a line break or is not valid UTF-8: rename the file.')
    return line


class ScanSummary(NamedTuple):
    """What an index holds: classes, images, and the classes without any image."""
    num_classes: int
    num_images: int
    empty_classes: tuple[str, ...]


def find_classes(data_root: str | os.PathLike, zipped: bool) -> list[str]:
    """Class names in ``data_root``, sorted: its folders, or its zip files without the suffix.

    Raises:
        UserError: The folder is missing or holds no class in this layout.
    """
    try:
        with os.scandir(data_root) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith('.'))
    except OSError as error:
        raise UserError(f'The data root {os.fspath(data_root)} cannot be listed ({error.strerror}): name the folder '
                        'that holds one folder or one zip file per class.') from error
    archives = [name[:-len('.zip')] for name, is_dir in found if not is_dir and name.endswith('.zip')]
    folders = [name for name, is_dir in found if is_dir]
    if classes := archives if zipped else folders:
        return classes
    other = ' (its zip files need --zip)' if archives else ' (its folders need no --zip)' if folders else ''
    raise UserError(f'{os.fspath(data_root)} holds no {"zip file" if zipped else "folder"} to be a class{other}.')


def index_images(data_root: str | os.PathLike,
                 out: str | os.PathLike,
                 classes: Sequence[str] | None = None,
                 zipped: bool = False,
                 workers: int = 8,
                 on_class: Callable[[int, int], None] = lambda done, images: None) -> ScanSummary:
    """List all images under ``data_root`` and write the index ``out``.

    The order is fixed by the names alone: classes in label order, and the images of a class sorted by key. Two layouts
    of the same images, folders and zip files, get the same keys in the same order.

    Args:
        data_root: Folder with one folder or one zip file per class.
        out: The index file, written in one piece at the end.
        classes: Class names in label order; all that are found, sorted, by default. Others in
            ``data_root`` are left out.
        zipped: Whether the classes are zip files.
        workers: Threads that list classes; more than the cores pays on network file systems.
        on_class: Called with the numbers of classes and images so far.

    Raises:
        UserError: A class is missing or listed twice, a zip file is unreadable, there is no image at all, or ``out`` is
            not writable.
    """
    data_root = os.fspath(data_root)
    found = find_classes(data_root, zipped)
    if classes is None:
        classes = found
    elif len(set(classes)) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise UserError(f'The class list names {twice} twice: keep one of them.')
    elif missing := sorted(set(classes) - set(found)):
        raise UserError(f'{len(missing)} of the {len(classes)} listed classes are not in {data_root}, {missing[0]} '
                        'among them: complete the data, or list only what is there.')
    scan = partial(list_zip if zipped else list_folder, data_root)
    counts: list[int] = []  # images of each class

    def images() -> Iterator[tuple[list[str], list[ArchiveMember]]]:
        total = 0
        for first in range(0, len(classes), _CLASSES_IN_FLIGHT):
            for keys, members in pool.map(scan, classes[first:first + _CLASSES_IN_FLIGHT]):
                yield keys, members
                counts.append(len(keys))
                total += len(keys)
                on_class(len(counts), total)
        if not total:
            raise UserError(f'No image lies under {data_root}: put files ending in {", ".join(IMAGE_SUFFIXES)} there.')

    with ThreadPoolExecutor(workers) as pool:
        write_index(out, classes, zipped, images())
    empty = tuple(name for name, count in zip(classes, counts, strict=True) if not count)
    return ScanSummary(len(classes), sum(counts), empty)
