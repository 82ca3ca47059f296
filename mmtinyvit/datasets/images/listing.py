"""Listing the images of a folder or an archive: their names, and where their bytes are.

Nothing is unpacked. ``zipfile`` and ``tarfile`` parse the archives; what they would write to a disk (links, devices,
paths outside) is never written, because only byte ranges of regular members are kept.
"""
import json
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from ...errors import UserError
from .data_root import DataRoot, FileRange

__all__ = ['IMAGE_SUFFIXES', 'Listing', 'inner_archives', 'list_folder', 'list_tar', 'list_zip']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
MAX_IMAGE_BYTES = 2**30  # a member that claims more is no image
COLUMNS = dict(offsets='<u8', sizes='<u4', methods='|u1', crcs='<u4')  # of an archive's images
_MAX_LABEL_BYTES = 2**20

_LOCAL_HEADER = struct.Struct('<4s22xHH')  # signature; lengths of the name and of the extra field at bytes 26 and 28
_ENCRYPTED = 0x1
_CHUNK = 2**20


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
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    """Whether a path, or one of its folders, is hidden or a system's own.

    Such are ``._x.jpg`` and ``__MACOSX`` of macOS, ``.ipynb_checkpoints``, and ``@eaDir`` of file servers.
    """
    return any(part in ('__MACOSX', '@eaDir') or (part.startswith('.') and part not in ('.', '..'))
               for part in name.split('/'))


def _ending(name: str) -> str:
    """What a file is counted as that is no image."""
    return 'hidden' if _is_hidden(name) else posixpath.splitext(name)[1].lower() or 'without an ending'


def list_folder(root: DataRoot, folder: str) -> Listing:
    """The images under ``folder``, or, for ``''``, those that lie in the root itself, sorted by name."""
    found = list(root.walk(folder) if folder else (entry.name for entry in root.entries() if not entry.is_dir))
    others = Counter(_ending(name) for name in found if not is_image(name)) if folder else {}  # the root: indexes, maps
    return Listing(sorted(filter(is_image, found)), others=dict(others))


def list_zip(file: BinaryIO, name: str) -> Listing:
    """The images in an open zip file, sorted by name; ``name`` is what an error calls it.

    Raises:
        UserError: The file is no readable zip file, or a member is encrypted or compressed in another way.
    """
    rows, others = [], Counter()
    try:
        with zipfile.ZipFile(file) as archive:
            end = archive.start_dir
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if not is_image(info.filename):
                    others[_ending(info.filename)] += 1
                    continue
                if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f'{info.filename} in {name} is encrypted or compressed by method '
                                    f'{info.compress_type}: write the archive again with plain `zip`.')
                # the local header's extra field may differ in length from the central directory's
                file.seek(info.header_offset)
                signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
                if signature != zipfile.stringFileHeader or start + info.compress_size > end:
                    raise zipfile.BadZipFile(f'no member at byte {info.header_offset}')
                _refuse_size(max(info.file_size, info.compress_size), info.filename, name)
                rows.append((info.filename, start, info.compress_size, info.compress_type, info.CRC))
    except (OSError, zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise UserError(f'{name} cannot be read as a zip file ({error}): fetch it again.') from error
    return _listing(sorted(rows), others=others)


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
    try:
        with tarfile.open(fileobj=file, mode='r:') as archive:
            for info in archive:
                archive.members = []  # which tarfile would keep
                if not info.isreg() or info.sparse is not None:
                    continue
                if suffix and info.name.endswith(f'.{suffix}'):
                    if info.size > _MAX_LABEL_BYTES:
                        raise UserError(f'{info.name} in {name} has {info.size} bytes, too many for a label.')
                    file.seek(info.offset_data)
                    labels[_sample(info.name)] = _label(file.read(info.size), field, f'{info.name} in {name}')
                elif is_image(info.name):
                    _refuse_size(info.size, info.name, name)
                    crc = _crc(file, info.offset_data, info.size)
                    rows[info.name] = (info.name, info.offset_data, info.size, zipfile.ZIP_STORED, crc)
                else:
                    others[_ending(info.name)] += 1
            file.seek(archive.offset)
            if not file.read(1):
                raise tarfile.ReadError('it ends without the mark of its end')
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f'{name} cannot be read as a tar file ({error}): fetch it again, or unpack it if it is '
                        'compressed.') from error
    return _listing(list(rows.values()), [labels.get(_sample(row), '') for row in rows] if label else [], others)


def inner_archives(file: BinaryIO, name: str) -> list[tuple[str, int, int]]:
    """Name, first byte and size of each tar file in an open tar file; empty if its first file is none.

    Raises:
        UserError: As :func:`list_tar`.
    """
    found = []
    try:
        with tarfile.open(fileobj=file, mode='r:') as archive:
            for info in archive:
                archive.members = []
                if info.isreg() and info.name.endswith('.tar'):
                    found.append((info.name, info.offset_data, info.size))
                elif info.isreg() and not found:
                    return []
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f'{name} cannot be read as a tar file ({error}): fetch it again, or unpack it if it is '
                        'compressed.') from error
    return found


def open_inner(file: BinaryIO, start: int, size: int) -> BinaryIO:
    """An archive inside the archive ``file``."""
    return FileRange.buffered(file, start, size)


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
    """A label as text, from the content of a member."""
    value = None
    try:
        if not field:
            return data.decode().strip()
        value = json.loads(data)
        for key in field.split('.'):
            value = value[key]
        return str(value)
    except (ValueError, KeyError, TypeError) as error:
        fields = f' (there are {", ".join(map(str, value))})' if isinstance(value, dict) else ''
        raise UserError(f'{name} holds no label{f" in its field {field}" if field else ""}{fields}: name another '
                        'source with --labels.') from error
