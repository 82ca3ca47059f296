"""Reading members of archives.

The index keeps where each member's data starts, so that a worker needs one ``os.pread`` per image: ``zipfile`` would
parse the central directory of the archive every time, or hold 21,841 of them in memory.
"""
import os
import zipfile
import zlib
from typing import NamedTuple

from ..errors import UserError

__all__ = ['ArchiveMember', 'read_member']


class ArchiveMember(NamedTuple):
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


def read_member(member: ArchiveMember, name: str) -> bytes:
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
