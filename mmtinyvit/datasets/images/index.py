"""The image index: one memory-mapped file that lists the images of a data set.

ImageNet-21K has 14 million images. Listing its folders takes minutes to hours and the list, as Python objects,
gigabytes in every worker. The index is written once (:mod:`.scan`), opens in milliseconds, and its pages are
shared by all workers of a machine.

Layout, little-endian, every section at a multiple of 64 bytes::

    0    magic 'MMTVIDX2', byte position of the header (uint64), size of the header (uint64), SHA-256 of the header
    64   keys          the sample keys as UTF-8 text, one per line, in sample order
         key_starts    (N + 1,) uint64: where each line starts
         labels        (N,) int32, -1 where there is none
         and for images in archives:
         archive (N,) uint32: row of the table of archives in the header
         offsets (N,) uint64, sizes (N,) uint32, methods (N,) uint8, crcs (N,) uint32
         checks        uint32 for each 4096 images: CRC-32 of what the sections above say about them
    end  header        JSON: format, layout, class names, archives with their sizes, the folder's files whose names
                       differ from their keys, whether every image was decoded once and how, SHA-256 of the keys, place
                       and length of every section

Paths of archives are relative to the data root, so that the index stays true where the data are moved. Format 1, which
knew class folders and one zip file per class, is read too.
"""
import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import UserError
from .data_root import join_root
from .members import ArchiveMember

__all__ = ['ImageIndex', 'IndexBlock', 'write_index']

_FORMAT = 2
_MAGIC = b'MMTVIDX2'
_PRELUDE = struct.Struct('<8sQQ32s')
_ALIGN = 64
_ARCHIVE_COLUMNS = {'archive': '<u4', 'offsets': '<u8', 'sizes': '<u4', 'methods': '|u1', 'crcs': '<u4'}
_DTYPES = {'keys': '|u1', 'key_starts': '<u8', 'labels': '<i4', **_ARCHIVE_COLUMNS, 'checks': '<u4',
           'archive_bytes': '<u8'}
_CHECKED = 4096  # images under one checksum; a block is checked when one of its images is asked for first


class ImageIndex:
    """Read access to an image index. Pickles as its path, so that every worker maps the file itself.

    Args:
        path: The index file.

    Attributes:
        classes: Class names in label order; empty if the images have no labels.
        labels: ``(N,)`` int32; -1 where there is no label.
        archives: Paths of the archives below the data root; empty if the images are files.
        checked: The decoder with which every image was decoded once, or None.
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
                            f'"mmtinyvit index DATA_ROOT --out {self.path}".') from None
        except (OSError, ValueError) as error:
            raise UserError(f'The image index {self.path} cannot be read: {error}.') from error
        try:
            self._take(self._read_header())
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # a sound checksum over something else
            raise UserError(f'{self.path} is no image index that this library can read ({error!r}): write it again '
                            'with "mmtinyvit index".') from error

    def _take(self, header: dict) -> None:
        self._columns = {
            name: np.frombuffer(self._map, _DTYPES[name], count, offset)
            for name, (offset, count) in header['sections'].items()
        }
        self.classes: tuple[str, ...] = tuple(header['classes'])
        self.labels: np.ndarray = self._columns['labels']
        if header['format'] == 1 and header['layout'] == 'zip':  # one archive per class, in label order
            header['archives'] = [(f'{name}.zip', size) for name, size
                                  in zip(self.classes, self._columns['archive_bytes'].tolist(), strict=True)]
            self._columns['archive'] = self.labels
        self._archives: list[tuple[str, int]] = header.get('archives', [])
        self.archives = tuple(name for name, _ in self._archives)
        self.checked: str | None = header.get('checked')
        self.keys_sha256: str = header['keys_sha256']
        self._renamed: dict[str, str] = header.get('renamed', {})
        self._key_starts = self._columns['key_starts']
        unknown = bytes(-(-len(self) // _CHECKED))
        self._intact = bytearray(unknown if 'checks' in self._columns else len(unknown) * b'\1')  # format 1 has none

    def _read_header(self) -> dict:
        mend = 'write it again with "mmtinyvit index".'
        size = len(self._map)
        if size < _PRELUDE.size or self._map[:7] != _MAGIC[:7]:
            raise UserError(f'{self.path} is not an image index: {mend}')
        magic, start, count, digest = _PRELUDE.unpack_from(self._map)
        if magic not in (_MAGIC, _MAGIC[:7] + b'1'):
            raise UserError(f'The image index {self.path} has format {chr(magic[7])}, this library reads 1 to '
                            f'{_FORMAT}: upgrade mmtinyvit, or {mend}')
        text = self._map[start:start + count]
        if start + count != size or hashlib.sha256(text).digest() != digest:
            raise UserError(f'The image index {self.path} is truncated or damaged: {mend}')
        return json.loads(text)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self):
        return ImageIndex, (self.path,)

    def require_intact(self, start: int = 0, stop: int | None = None) -> None:
        """Compare the images from ``start`` to ``stop`` with their checksums, unless that was done before.

        Raises:
            UserError: The file is damaged.
        """
        stop = len(self) if stop is None else stop
        for block in range(start // _CHECKED, -(-stop // _CHECKED)):
            if not self._intact[block]:
                if _check(self._columns, block) != self._columns['checks'][block]:
                    raise UserError(f'The image index {self.path} is damaged: write it again with '
                                    '"mmtinyvit index".')
                self._intact[block] = 1

    def key(self, position: int) -> str:
        """The sample key at ``position``."""
        if not self._intact[position // _CHECKED]:
            self.require_intact(position, position + 1)
        start, end = self._key_starts[position:position + 2].tolist()
        return self._columns['keys'][start:end - 1].tobytes().decode()

    def keys(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The keys from ``start`` to ``stop``, decoded in blocks: millions in a second."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, _CHECKED):
            last = min(first + _CHECKED, stop)
            self.require_intact(first, last)
            begin, end = self._key_starts[[first, last]].tolist()
            yield from self._columns['keys'][begin:end - 1].tobytes().decode().split('\n')

    def place(self, position: int, data_root: str) -> tuple[str, ArchiveMember | None]:
        """Path or URL of the image at ``position``, and where its bytes are if it is in an archive."""
        key = self.key(position)
        if not self.archives:
            return join_root(data_root, self._renamed.get(str(position), key)), None
        number, *values = (self._columns[name][position].item() for name in _ARCHIVE_COLUMNS)
        name, archive_bytes = self._archives[number]
        archive = join_root(data_root, name)
        inside = key.removeprefix(f'{name.rpartition(".")[0]}/')  # n01.tar/a.jpg, not n01.tar/n01/a.jpg
        return join_root(archive, inside), ArchiveMember(archive, archive_bytes, *values)


def _check(columns: dict[str, np.ndarray], block: int) -> int:
    """The checksum of a block of images."""
    rows = slice(block * _CHECKED, (block + 1) * _CHECKED)
    starts = columns['key_starts'][rows.start:rows.stop + 1]
    check = zlib.crc32(columns['keys'][starts[0]:starts[-1]], zlib.crc32(starts))
    for name in ('labels', *(_ARCHIVE_COLUMNS if 'offsets' in columns else ())):
        check = zlib.crc32(columns[name][rows], check)
    return check


class IndexBlock(NamedTuple):
    """Images that are written to an index together.

    Attributes:
        keys: Their keys, each a line of UTF-8 text.
        labels: ``(n,)`` int32, -1 for none.
        columns: ``archive``, ``offsets``, ``sizes``, ``methods`` and ``crcs``, each ``(n,)``; empty for files.
        paths: Paths of files below the data root.
    """
    keys: Sequence[str]
    labels: np.ndarray
    columns: dict[str, np.ndarray]
    paths: Sequence[str] = ()


def write_index(path: str | os.PathLike, blocks: Iterable[IndexBlock], layout: str, classes: Sequence[str] = (),
                archives: Sequence[tuple[str, int]] = (), checked: str | None = None) -> None:
    """Write an index; the file appears under its name only when it is complete.

    Args:
        path: The index file.
        blocks: All images, in sample order.
        layout: See :mod:`.layouts`.
        classes: Class names in label order.
        archives: Path below the data root, and size in bytes, of every archive; empty if the images are files.
        checked: See :class:`ImageIndex`.

    Raises:
        UserError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    digest, line_bytes, renamed, total = hashlib.sha256(), [np.zeros(1, np.int64)], {}, 0
    parts = {name: [np.zeros(0, _DTYPES[name])] for name in ('labels', *(_ARCHIVE_COLUMNS if archives else ()))}
    try:
        with open(temporary, 'w+b') as file:

            def pad() -> int:
                """Fill up to the next multiple of 64 bytes and return that position."""
                file.write(bytes(-file.tell() % _ALIGN))
                return file.tell()

            file.write(bytes(_ALIGN))
            for block in blocks:
                lines = [f'{key}\n'.encode() for key in block.keys]
                text = b''.join(lines)
                digest.update(text)
                file.write(text)
                line_bytes.append(np.fromiter(map(len, lines), np.int64, len(lines)))
                for name, values in dict(labels=block.labels, **block.columns).items():
                    parts[name].append(values.astype(_DTYPES[name]))
                pairs = enumerate(zip(block.keys, block.paths, strict=True) if block.paths else (), total)
                renamed |= {position: file_path for position, (key, file_path) in pairs if key != file_path}
                total += len(lines)
            key_starts = np.concatenate(line_bytes).cumsum()
            columns = dict(key_starts=key_starts.astype('<u8'), **{k: np.concatenate(v) for k, v in parts.items()})
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as written:
                keys = np.frombuffer(written, np.uint8, int(key_starts[-1]), _ALIGN)
                columns['checks'] = np.array([_check(columns | dict(keys=keys), block)
                                              for block in range(-(-total // _CHECKED))], '<u4')
                del keys
            sections = {'keys': (_ALIGN, int(key_starts[-1]))}
            for name, values in columns.items():
                sections[name] = (pad(), len(values))
                file.write(values)
            start = pad()
            header = json.dumps(dict(
                format=_FORMAT, layout=layout, keys_sha256=digest.hexdigest(), sections=sections, classes=list(classes),
                archives=list(archives), renamed=renamed, checked=checked)).encode()
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
