"""Reading images where they are: members of archives, and files at URLs.

The index keeps where each member's data starts, so that a worker needs one ``os.pread`` per image, or one request for a
range of bytes: ``zipfile`` would parse the central directory of the archive every time, or hold 21,841 of them in
memory.
"""
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import UserError
from ...store.folders import is_url
from .byte_cache import image_cache
from .listing import MAX_IMAGE_BYTES
from .remote_bytes import ByteRange, fetch_ranges, remote_size

__all__ = ['ArchiveMember', 'read_files', 'read_member', 'read_members', 'require_size']

_INDEX_AGAIN = 'write the image index again with "mmtinyvit index"'


class ArchiveMember(NamedTuple):
    """Where the data of one member is.

    Attributes:
        archive: Path or URL of the archive.
        archive_bytes: Size of the archive when it was indexed; another size means another file.
        offset: First byte of the member's data in the archive.
        size: Bytes of the data as stored.
        method: ``zipfile.ZIP_STORED`` or ``zipfile.ZIP_DEFLATED``.
        crc: CRC-32 of the data after decompression; None if the index has none.
    """
    archive: str
    archive_bytes: int
    offset: int
    size: int
    method: int
    crc: int | None


def read_member(member: ArchiveMember, name: str) -> bytes:
    """The content of ``member``; ``name`` is what an error calls it.

    Raises:
        UserError: The archive is missing, is not the one that was indexed, or its bytes are damaged.
    """
    return _read_remote([member], [name])[0] if is_url(member.archive) else _read_local(member, name)


def read_members(members: Sequence[ArchiveMember], names: Sequence[str]) -> list[bytes]:
    """The contents of several members, the same as one by one.

    Members of archives at URLs come from the machine's cache, if it has one, and from :func:`fetch_ranges`. One whose
    checksum is wrong is fetched once more.

    Raises:
        UserError: As for :func:`read_member`; or an archive at a URL cannot be reached.
    """
    remote = [i for i, member in enumerate(members) if is_url(member.archive)]
    contents = dict(zip(remote, _read_remote([members[i] for i in remote], [names[i] for i in remote]), strict=True))
    return [contents[i] if i in contents else _read_local(member, names[i]) for i, member in enumerate(members)]


def read_files(urls: Sequence[str]) -> list[bytes]:
    """The whole files at ``urls``. They are not cached: nothing would tell that one has changed.

    Raises:
        UserError: One is missing, or cannot be reached.
    """
    return fetch_ranges([ByteRange(url) for url in urls])


def require_size(member: ArchiveMember, archive_bytes: int | None) -> None:
    """Raise :class:`UserError` if the archive of ``member`` has another size than when it was indexed.

    Args:
        archive_bytes: Its size now; None if nobody knows.
    """
    if archive_bytes not in (None, member.archive_bytes):
        raise UserError(f'{member.archive} has {archive_bytes} bytes, but had {member.archive_bytes} when it was '
                        f'indexed: {_INDEX_AGAIN}.')


def _read_local(member: ArchiveMember, name: str) -> bytes:
    try:
        with open(member.archive, 'rb', buffering=0) as file:
            archive_bytes = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), member.size, member.offset)
    except OSError as error:
        raise UserError(f'The image {name} cannot be read ({error.strerror}): bring {member.archive} back, or '
                        f'{_INDEX_AGAIN}.') from error
    require_size(member, archive_bytes)
    content = _content(member, name, data)
    if content is None:
        raise UserError(f'The image {name} fails the checksum of its archive: fetch {member.archive} again.')
    return content


def _read_remote(members: Sequence[ArchiveMember], names: Sequence[str]) -> list[bytes]:
    cache = image_cache()
    keys = [f'{member.archive} {member.archive_bytes} {member.offset} {member.size}' for member in members]
    contents: list[bytes | None] = [None] * len(members)
    if cache:
        for i, key in enumerate(keys):
            data = cache.get(key)
            contents[i] = None if data is None else _content(members[i], names[i], data)
    for _ in range(2):
        missing = [i for i, content in enumerate(contents) if content is None]
        found = fetch_ranges([ByteRange(members[i].archive, members[i].offset, members[i].offset + members[i].size)
                              for i in missing])
        for i, data in zip(missing, found, strict=True):
            contents[i] = _content(members[i], names[i], data)
            if cache and contents[i] is not None:
                cache.put(keys[i], data)
    for member, name, content in zip(members, names, contents, strict=True):
        if content is None:
            require_size(member, remote_size(member.archive))
            raise UserError(f'The image {name} fails its checksum each time it is fetched: put {member.archive} there '
                            f'as it was indexed, or {_INDEX_AGAIN}.')
    return contents


def _content(member: ArchiveMember, name: str, data: bytes) -> bytes | None:
    """What is stored as ``data``; None if it is not what was indexed."""
    if len(data) != member.size:
        return None
    if member.method == zipfile.ZIP_DEFLATED:
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = unpacking.decompress(data, MAX_IMAGE_BYTES)
        except zlib.error:
            return None
        if unpacking.unconsumed_tail:
            raise UserError(f'The image {name} unpacks to more than {MAX_IMAGE_BYTES} bytes: take it out of '
                            f'{member.archive}, and {_INDEX_AGAIN}.')
        if not unpacking.eof:
            return None
    return data if member.crc is None or zlib.crc32(data) == member.crc else None
