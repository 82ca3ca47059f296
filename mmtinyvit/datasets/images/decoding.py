"""Decoding every image of a data set once, in blocks of neighbours."""
import os
import time

from ...errors import UserError
from ...store.folders import is_url
from .check import check_image
from .data_root import DataRoot, join_root
from .layouts import Source
from .listing import COLUMNS, MAX_IMAGE_BYTES, Listing
from .members import ArchiveMember, read_files, read_member, read_members, require_size

__all__ = ['block_stamps', 'decode_block']

_READ_AT_ONCE = 16  # neighbours in an archive at a URL come with one request


def block_stamps(root: DataRoot, source: Source, listing: Listing, rows: range) -> list[str]:
    """What tells that files by themselves have changed; an archive is known by its own stamp."""
    if source.kind != 'folder':
        return []
    if is_url(root.root):
        return [str(time.time_ns())]  # asking would take as many requests as there are images
    try:
        return [f'{listing.names[row]} {root.entry(listing.names[row]).stamp}' for row in rows]
    except OSError:
        return [str(time.time_ns())]  # one is gone: decode, and see


def decode_block(root: DataRoot, source: Source, listing: Listing, rows: range, backend: str) -> dict[int, str]:
    """Reasons of those of a block of images that do not decode, by row."""
    reasons = {}
    for first in range(0, len(rows), _READ_AT_ONCE):
        batch = rows[first:first + _READ_AT_ONCE]
        for row, data in zip(batch, _read(root, source, listing, batch), strict=True):
            reason = data if isinstance(data, str) else check_image(data, listing.names[row], backend)
            if reason is not None:
                reasons[row] = reason
    return reasons


def _read(root: DataRoot, source: Source, listing: Listing, rows: range) -> list[bytes | str]:
    """The bytes of some images, or why there are none."""
    names = [listing.names[row] for row in rows]
    if source.kind == 'folder' and is_url(root.root):
        return read_files([join_root(root.root, name) for name in names])
    if source.kind == 'folder':
        return [_read_file(root, name) for name in names]
    archive = join_root(root.root, source.name)
    columns = (listing.columns[name][rows.start:rows.stop].tolist() for name in COLUMNS)
    members = [ArchiveMember(archive, source.size, *values) for values in zip(*columns, strict=True)]
    if is_url(archive):
        return read_members(members, names)
    contents: list[bytes | str] = []
    for member, name in zip(members, names, strict=True):
        try:
            contents.append(read_member(member, name))
        except UserError:
            require_size(member, os.path.getsize(archive))  # another archive by now is no fault of the image
            contents.append('damaged in its archive')
    return contents


def _read_file(root: DataRoot, name: str) -> bytes | str:
    try:
        with root.open(name) as file:
            return file.read(MAX_IMAGE_BYTES)
    except OSError as error:
        return f'cannot be read ({error.strerror})'
