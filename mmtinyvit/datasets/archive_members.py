"""The images of a class, in a folder or in an archive: listing them, and reading members of an archive.

The index keeps where each member's data starts, so that a worker needs one ``os.pread`` per image: ``zipfile`` would
parse the central directory of the archive every time, or hold 21,841 of them in memory.
"""
import os
import posixpath
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

__all__ = ['IMAGE_SUFFIXES', 'ZipMember', 'list_folder', 'list_zip', 'read_member']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')

_LOCAL_HEADER = struct.Struct('<4s22xHH')  # signature; lengths of the name and of the extra field at bytes 26 and 28
_ENCRYPTED = 0x1


class ZipMember(NamedTuple):
    """Where the data of one member is.

    Attributes:
        archive: Path of the zip file.
        archive_bytes: Size of the zip file when it was indexed; another size means another file.
        offset: First byte of the member's data in the archive.
        size: Bytes of the data as stored.
        method: ``zipfile.ZIP_STORED`` or ``zipfile.ZIP_DEFLATED``.
        crc: CRC-32 of the data after decompression.
    """
    archive: str
    archive_bytes: int
    offset: int
    size: int
    method: int
    crc: int


def list_folder(data_root: str, name: str) -> tuple[list[str], list[ZipMember]]:
    """The sorted keys of the images under the folder of the class ``name``, and no members."""
    root = Path(data_root, name)
    files = (Path(folder, file) for folder, _, files in os.walk(root, followlinks=True) for file in files)
    return sorted(f'{name}/{file.relative_to(root).as_posix()}' for file in files if _is_image(file.name)), []


def list_zip(data_root: str, name: str) -> tuple[list[str], list[ZipMember]]:
    """The sorted keys and the members of the images in the zip file of the class ``name``.

    Raises:
        UserError: The file is no readable zip file, a member is encrypted or compressed in another way, or two images
            would have the same key.
    """
    archive, members = os.path.join(data_root, f'{name}.zip'), {}
    try:
        with zipfile.ZipFile(archive) as file:
            archive_bytes = os.fstat(file.fp.fileno()).st_size
            for info in file.infolist():
                if info.is_dir():
                    continue
                if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f'{info.filename} in {archive} is encrypted or compressed by method '
                                    f'{info.compress_type}: write the archive again with plain `zip`.')
                # The local header's extra field may differ in length from the central directory's.
                header = os.pread(file.fp.fileno(), _LOCAL_HEADER.size, info.header_offset)
                signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
                if signature != zipfile.stringFileHeader:
                    raise zipfile.BadZipFile(f'no member at byte {info.header_offset}')
                if not _is_image(info.filename):
                    continue
                # Archives differ in the folder they put their members under; the class is the archive's own name.
                image = posixpath.basename(info.filename)
                if image in members:
                    raise UserError(f'{archive} holds {image} twice, in two of its folders: keep one of them.')
                start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
                members[image] = ZipMember(archive, archive_bytes, start, info.compress_size, info.compress_type,
                                           info.CRC)
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise UserError(f'{archive} cannot be read as a zip file ({error}): fetch it again.') from error
    return [f'{name}/{image}' for image in sorted(members)], [members[image] for image in sorted(members)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def read_member(member: ZipMember, name: str) -> bytes:
    """The content of ``member``; ``name`` is what an error calls it.

    Raises:
        UserError: The archive is missing, is not the one that was indexed, or its bytes are damaged.
    """
    try:
        with open(member.archive, 'rb', buffering=0) as file:
            archive_bytes = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), member.size, member.offset)
    except OSError as error:
        raise UserError(f'The image {name} cannot be read ({error.strerror}): bring {member.archive} back, or write '
                        'the image index again with tools/dataset_converters/index_images.py.') from error
    if archive_bytes != member.archive_bytes:
        raise UserError(f'{member.archive} has {archive_bytes} bytes, but had {member.archive_bytes} when it was '
                        'indexed: write the image index again with tools/dataset_converters/index_images.py.')
    try:
        if member.method == zipfile.ZIP_DEFLATED:
            data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        intact = zlib.crc32(data) == member.crc
    except zlib.error:
        intact = False
    if not intact:
        raise UserError(f'The image {name} fails the checksum of its zip file: fetch {member.archive} again.')
    return data
