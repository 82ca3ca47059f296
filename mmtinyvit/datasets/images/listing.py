"""Listing the images of a folder or an archive: their names, and where their bytes are.

Nothing is unpacked. ``zipfile`` and ``tarfile`` parse the archives; what they would write to a disk (links, devices,
paths outside) is never written, because only byte ranges of regular members are kept.
"""
import json
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import compress, islice
from typing import BinaryIO, NamedTuple

import numpy as np

from ...errors import UserError
from .data_root import DataRoot, is_hidden

__all__ = ['IMAGE_SUFFIXES', 'Listing', 'count_ending', 'first_names', 'inner_archives', 'is_image', 'list_folder',
           'list_tar', 'list_zip', 'without_sidecars']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
MAX_IMAGE_BYTES = 2**30  # a member that claims more is no image
COLUMNS = dict(offsets='<u8', sizes='<u4', methods='|u1', crcs='<u4')  # of an archive's images
_MAX_LABEL_BYTES = 2**20

_LOCAL_HEADER = struct.Struct('<4s22xHH')  # signature; lengths of the name and of the extra field at bytes 26 and 28
_ENCRYPTED, _UTF8 = 0x1, 0x800
_BLOCK = 512  # of a tar file
_CHUNK = 2**20
_ARCHIVE = re.compile(r'\.(zip|tar|tgz|tar\.\w+)$')


class Listing(NamedTuple):
    """The images of a folder or an archive.

    Attributes:
        names: Path of each, below the data root for a folder, and inside the archive otherwise; forward slashes.
        columns: ``offsets``, ``sizes``, ``methods`` and ``crcs`` of each in an archive; empty for a folder.
        labels: What the archive says about each image's class, as text; empty where nothing was asked for, and ``''``
            for an image about which it says nothing.
        others: How many other files there are, by the ends of their names.
    """
    names: list[str]
    columns: dict[str, np.ndarray] = {}
    labels: list[str] = []
    others: dict[str, int] = {}


def is_image(name: str) -> bool:
    """Whether a path ends as an image's, and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


def count_ending(name: str) -> str:
    """What a file is counted as that is no image."""
    if name.endswith('/'):  # of DataRoot.walk
        return 'link to nothing'
    return 'hidden' if is_hidden(name) else posixpath.splitext(name)[1].lower() or 'without an ending'


def list_folder(root: DataRoot, folder: str) -> Listing:
    """The images under ``folder``, or, for ``''``, those that lie in the root itself, sorted by name."""
    found = list(root.walk(folder) if folder else (entry.name for entry in root.entries() if not entry.is_dir))
    others = Counter(count_ending(name) for name in found if not is_image(name))
    return Listing(sorted(filter(is_image, found)), others=dict(others) if folder else {})  # the root has indexes, maps


def without_sidecars(listing: Listing) -> Listing:
    """The images of a WebDataset's shard, without what lies beside them, as ``x.seg.png`` beside ``x.jpg``.

    ``x.left.png`` and ``x.right.png`` stay where there is no ``x.jpg``.
    """
    stems = {posixpath.splitext(name)[0] for name in listing.names}
    endings = [_ending_beside(name, stems) for name in listing.names]
    if not any(endings):
        return listing
    kept = [not ending for ending in endings]
    others = Counter(listing.others) + Counter(filter(None, endings))
    return Listing(list(compress(listing.names, kept)), {key: column[kept] for key, column in listing.columns.items()},
                   list(compress(listing.labels, kept)), dict(others))


def _ending_beside(name: str, stems: Collection[str]) -> str:
    """``.seg.png`` for ``x.seg.png`` if ``x`` is an image of its own; else empty."""
    stem = posixpath.splitext(name)[0]
    while '.' in posixpath.basename(stem)[1:]:
        stem = posixpath.splitext(stem)[0]
        if stem in stems:
            return name.removeprefix(stem).lower()
    return ''


def list_zip(file: BinaryIO, name: str) -> Listing:
    """The images in an open zip file, sorted by name; ``name`` is what an error calls it.

    Raises:
        UserError: The file is no readable zip file, or a member is encrypted or compressed in another way.
    """
    rows, others = [], Counter()
    with _readable(name, 'zip'), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            member = _zip_name(info)
            if info.is_dir():
                continue
            if not is_image(member) or stat.S_ISLNK(info.external_attr >> 16):
                others['link' if is_image(member) else count_ending(member)] += 1
                continue
            if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f'{member} in {name} is encrypted or compressed by method {info.compress_type}: write '
                                'the archive again with plain `zip`.')
            # the local header's extra field may differ in length from the central directory's
            file.seek(info.header_offset)
            signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
            if signature != zipfile.stringFileHeader or start + info.compress_size > archive.start_dir:
                raise zipfile.BadZipFile(f'no member at byte {info.header_offset}')
            _refuse_size(max(info.file_size, info.compress_size), member, name)
            rows.append((member, start, info.compress_size, info.compress_type, info.CRC))
    return _listing(sorted(rows), others=others)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The member's name; most programs write UTF-8, and some forget to say so."""
    if not info.flag_bits & _UTF8:
        with suppress(UnicodeError):
            return info.filename.encode('cp437').decode()
    return info.filename


def list_tar(file: BinaryIO, name: str, label: str | None = None) -> Listing:
    """The images in an open tar file, in its order; ``name`` is what an error calls it.

    A member that was appended a second time takes the place of the first, as it does when tar unpacks. CRCs are
    computed, so that the whole file is read.

    Args:
        label: Where labels are: ``'cls'``, in the member ``x.cls`` beside ``x.jpg`` as WebDataset has it;
            ``'json:y.z'``, in the field ``z`` of the field ``y`` of ``x.json``; None, nowhere.

    Raises:
        UserError: The file is no readable tar file, is compressed, or is cut off; a label cannot be read.
    """
    suffix, _, field = (label or '').partition(':')
    rows, labels, others = {}, {}, Counter()
    with _readable(name, 'tar'):
        for info in _tar_members(file, name):
            if suffix and info.name.lower().endswith(f'.{suffix}'):
                if info.size > _MAX_LABEL_BYTES:
                    raise UserError(f'{info.name} in {name} has {info.size} bytes, too many for a label.')
                file.seek(info.offset_data)
                labels[info.name[:-len(suffix) - 1]] = _label(file.read(info.size), field, f'{info.name} in {name}')
            elif not is_image(info.name) or not info.isreg() or info.sparse is not None:
                others['link' if is_image(info.name) else count_ending(info.name)] += 1
            else:
                _refuse_size(info.size, info.name, name)
                crc = _crc(file, info.offset_data, info.size)
                rows[info.name] = (info.name, info.offset_data, info.size, zipfile.ZIP_STORED, crc)
    found = [labels.get(posixpath.splitext(row)[0], labels.get(_sample(row), '')) for row in rows] if label else []
    return _listing(list(rows.values()), found, others)


def inner_archives(file: BinaryIO, name: str) -> list[tuple[str, int, int]]:
    """Name, first byte and size of each tar file in an open tar file; empty if its first image comes before any.

    Raises:
        UserError: As :func:`list_tar`; or images and archives lie side by side.
    """
    found = []
    for info in _tar_members(file, name):
        if info.isreg() and info.name.lower().endswith('.tar'):
            found.append((info.name, info.offset_data, info.size))
        elif is_image(info.name) or _ARCHIVE.search(info.name.lower()):
            if not found:
                return []
            raise UserError(f'{name} holds tar files, and {info.name} beside them: unpack it once, or leave that out.')
    return found


def first_names(file: BinaryIO, kind: str, name: str, count: int = 64) -> list[str]:
    """Names of the first files in an open archive.

    Raises:
        UserError: It cannot be read.
    """
    if kind == 'zip':
        with _readable(name, 'zip'), zipfile.ZipFile(file) as archive:
            return [_zip_name(info) for info in archive.infolist() if not info.is_dir()][:count]
    return [info.name for info in islice(_tar_members(file, name), count)]


def _tar_members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """All members but folders, and then a look at the end: tarfile takes a damaged header for the end of the file."""
    with _readable(name, 'tar'), tarfile.open(fileobj=file, mode='r:') as archive:
        for info in archive:
            archive.members = []  # which tarfile would keep
            if info.size < 0:
                raise tarfile.ReadError(f'{info.name} has a negative size')
            if not info.isdir():
                yield info
        file.seek(archive.offset)
        end = file.read(_BLOCK)
        while data := end or file.read(_CHUNK):
            if data.strip(b'\0'):
                raise tarfile.ReadError(f'at byte {archive.offset} is a damaged header, or another archive')
            end = b''
        if file.tell() < archive.offset + _BLOCK:
            raise tarfile.ReadError('it ends without the mark of its end')


@contextmanager
def _readable(name: str, kind: str) -> Iterator[None]:
    """What ``zipfile`` and ``tarfile`` raise becomes one sentence."""
    try:
        yield
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, struct.error, NotImplementedError,
            ValueError) as error:
        compressed = ', or unpack it if it is compressed' if kind == 'tar' else ''
        raise UserError(f'{name} cannot be read as a {kind} file ({error}): fetch it again{compressed}.') from error


def _listing(rows: list[tuple[str, int, int, int, int]], labels: Sequence[str] = (),
             others: Counter | None = None) -> Listing:
    names, *columns = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    arrays = {key: np.array(values, dtype) for (key, dtype), values in zip(COLUMNS.items(), columns, strict=True)}
    return Listing(list(names), arrays, list(labels), dict(others or {}))


def _refuse_size(size: int, member: str, archive: str) -> None:
    if size > MAX_IMAGE_BYTES:
        raise UserError(f'{member} in {archive} claims {size} bytes, which is no image: fetch the archive again, or '
                        'remove the member.')


def _crc(file: BinaryIO, start: int, size: int) -> int:
    file.seek(start)
    crc = 0
    while size:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise tarfile.ReadError('unexpected end of data')
        crc = zlib.crc32(data, crc)
        size -= len(data)
    return crc


def _sample(name: str) -> str:
    """What WebDataset calls a sample: the path up to the first dot of the file's own name."""
    return re.sub(r'\.[^/]*$', '', name) if '.' in posixpath.basename(name)[1:] else name


def _label(data: bytes, field: str, name: str) -> str:
    """A label as text, from the content of a member; ``''`` for null and for -1, which stand for none."""
    value = None
    try:
        value = json.loads(data) if field else data.decode().strip()
        for key in filter(None, field.split('.')):
            value = value[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = '' if value is None else str(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))) or not text.isprintable():
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fields = f' (there are {", ".join(map(str, value))})' if isinstance(value, dict) else ''
        raise UserError(f'{name} holds no label{f" in its field {field}" if field else ""}{fields}: name another '
                        'source with --labels.') from error
    return '' if text == '-1' else text
