"""An image index at a URL, kept once on this machine."""
import hashlib
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...store.cache import cache_folder, caching, keep_file
from ...store.connection import short_reason
from ...store.folders import is_url
from ..identity import dataset_identity
from .index import ImageIndex
from .remote_bytes import ByteRange, fetch_ranges, remote_size, try_remote

__all__ = ['local_index']

# what protocols tell of a file that changes with it
_VERSION = ('ETag', 'LastModified', 'Last-Modified', 'mtime', 'created')
_CHECKS = 2**16  # bytes before the header that tell of labels and places: the checksums of 64 million images


def local_index(path: str) -> str:
    """``path``, or where this machine keeps the index at the URL ``path``, which is fetched if it is not here yet.

    One that has changed at the URL is fetched again. All processes share what is kept.

    Raises:
        UserError: There is none at the URL, it cannot be fetched or kept, or it is damaged.
    """
    if not is_url(path):
        return path
    def fetch(part: Path) -> None:
        try_remote(path, 'read', lambda system, inside: system.get_file(inside, str(part)))
        try:
            index = ImageIndex(part)
            intact = dataset_identity(index.keys(), None)['order_hash'] == index.keys_sha256
        except UserError as error:
            raise UserError(str(error).replace(str(part), path)) from error
        if not intact:
            raise UserError(f'The image index {path} is damaged: put it there again.')

    cache = cache_folder().absolute()
    try:
        version = try_remote(path, 'read', _version) or _contents_version(path)
        kept = cache / 'indexes' / f'{hashlib.sha256(f"{path} {version}".encode()).hexdigest()[:32]}.index'
        with caching(cache):
            keep_file(cache, kept, fetch)
    except FileNotFoundError as error:
        raise UserError(f'The image index {path} does not exist ({short_reason(error)}): write it with '
                        '"mmtinyvit index" and put it there, or name a local one.') from error
    return str(kept)


def _version(system: Any, inside: str) -> str:
    """What the protocol tells of a file that changes with it; empty if it tells its size at most."""
    system.invalidate_cache()
    info = system.info(inside)
    told = [str(info.get(name)) for name in _VERSION]
    return ' '.join([str(info.get('size')), *told]) if any(info.get(name) for name in _VERSION) else ''


def _contents_version(path: str) -> str:
    """What an index begins with, see :mod:`.index`, and its checksums, which lie before the header."""
    size = remote_size(path)
    start, = fetch_ranges([ByteRange(path, 0, 64 if size is None else min(size, 64))])
    header = int.from_bytes(start[8:16], 'little')
    end = header if size is None else min(header, size)
    checks, = fetch_ranges([ByteRange(path, max(end - _CHECKS, 0), end)])
    return hashlib.sha256(start + checks).hexdigest()
