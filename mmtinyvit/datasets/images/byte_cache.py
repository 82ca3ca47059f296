"""Images from elsewhere that a machine keeps: a bounded folder of byte strings that many processes share."""
import hashlib
import os
import struct
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

from ...store.cache import cache_folder, cache_limit, caching
from ...store.locks import wait_for_lock

__all__ = ['ByteCache', 'image_cache']

_VARIABLE = 'MMTINYVIT_IMAGE_CACHE_BYTES'
_FOLDERS = 256
_CHECKSUM = struct.Struct('<I')
_COUNT = 'count'
_COUNTED = struct.Struct('<QQ')  # bytes of a folder's entries; when they were last listed, in seconds since 1970
_LIST_EVERY = 3_600  # seconds
_NOTE_EVERY = 86_400  # seconds between two uses of an entry that are noted
_UNUSED = 7 * 86_400  # seconds without use after which an entry makes room for another


class ByteCache:
    """Byte strings by key, in files below a folder.

    A training reads every image once before it reads the first one again. Where not all of them fit, a cache that drops
    the least recently used would never hold those that come next. So what is kept stays and serves every epoch, and
    when there is no room, only what nobody has used for a week goes. (J. Mohan et al., "Analyzing and Mitigating Data
    Stalls in DNN Training", VLDB 2021.)

    Keys are spread over 256 folders, each of which takes its share of the limit. A small file in each counts its bytes,
    so that a folder is listed only when it is full, and then once an hour. An entry is written under another name and
    renamed, and ends in a checksum; one that was cut off or damaged counts as missing.

    Args:
        folder: Where; made when it is first needed.
        limit: Bytes that all entries may take. One that is larger than the 256th part is not kept.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> bytes | None:
        """What is kept under ``key``; None if nothing is."""
        path = self._path(key)
        with caching(self.folder, _VARIABLE):
            try:
                with open(path, 'rb') as file:
                    entry = file.read()
                    used = os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
            if time.time() - used > _NOTE_EVERY:
                with suppress(OSError):  # somebody else's cache may be read as well
                    os.utime(path)
        data, checksum = entry[:-_CHECKSUM.size], entry[-_CHECKSUM.size:]
        return data if checksum == _CHECKSUM.pack(zlib.crc32(data)) else None

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data`` if there is room, in place of what is under ``key``."""
        path, share = self._path(key), self.limit // _FOLDERS
        size = len(data) + _CHECKSUM.size
        if size > share:
            return
        with suppress(FileNotFoundError), caching(self.folder, _VARIABLE):  # it may be deleted at any time
            path.parent.mkdir(parents=True, exist_ok=True)
            count = os.open(path.with_name(_COUNT), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                wait_for_lock(count)  # without locks, the count may be a little wrong
                counted = os.pread(count, _COUNTED.size, 0)
                if len(counted) == _COUNTED.size:
                    taken, listed = _COUNTED.unpack(counted)
                else:  # a new folder, or a count that was cut off
                    taken, listed = _make_room(path.parent, share), 0
                if path.exists():
                    taken = max(taken - path.stat().st_size, 0)
                if taken + size > share and time.time() - listed > _LIST_EVERY:
                    taken, listed = _make_room(path.parent, share), int(time.time())
                fits = taken + size <= share
                os.pwrite(count, _COUNTED.pack(taken + fits * size, listed), 0)  # first: a crash counts too much
                if fits:
                    _replace(path, data + _CHECKSUM.pack(zlib.crc32(data)))
            finally:
                os.close(count)

    def _path(self, key: str) -> Path:
        name = hashlib.blake2b(os.fsencode(key), digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]


def image_cache() -> ByteCache | None:
    """The machine's cache of images, of the size that ``$MMTINYVIT_IMAGE_CACHE_BYTES`` says; None without it, or if 0.

    Raises:
        StoreError: The size is no whole number.
    """
    limit = None if os.environ.get(_VARIABLE) == '0' else cache_limit(variable=_VARIABLE)
    return None if limit is None else ByteCache(cache_folder().absolute() / 'images', limit)


def _make_room(folder: Path, share: int) -> int:
    """Remove all that is unused, and the oldest of what is more than ``share``; returns the bytes that are left."""
    entries = [(entry.stat(), entry.path) for entry in os.scandir(folder) if entry.name != _COUNT]
    taken, now = sum(status.st_size for status, _ in entries), time.time()
    for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
        if taken <= share and now - status.st_mtime < _UNUSED:
            break
        os.unlink(path)
        taken -= status.st_size
    return taken


def _replace(path: Path, data: bytes) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent)
    try:
        with open(handle, 'wb') as file:
            file.write(data)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
