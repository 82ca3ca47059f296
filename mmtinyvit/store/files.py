"""Files that are either whole or absent, and operating system errors turned into sentences."""
import errno
import hashlib
import mmap
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreError
from .layout import INDEX_NAME, LOCK_NAME, MANIFEST_NAME, TEXT_NAME, TMP_SUFFIX, final_name, parse_shard, parse_view

__all__ = ['FULL', 'file_sha256', 'make_folder', 'map_file', 'refuse_foreign', 'sync_folder', 'translated',
           'write_atomically']

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def translated(root: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turns an ``OSError`` inside the block into a :class:`StoreError` about the store at ``root``."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            need = max(1, -(-needed_bytes // 2**20))
            raise StoreError(f'The disk is full ({error.strerror}) while writing the store {root}: free {need} MB or '
                             'more and start again; finished shards are kept.') from error
        if error.errno in _FORBIDDEN:
            raise StoreError(f'Cannot write to the store {root} ({error.strerror}): choose a folder that you may '
                             'write to, or change its permissions.') from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise StoreError(f'Cannot make the store {root}, because {error.filename} is in the way and is not a '
                             'folder: choose another path.') from error
        raise StoreError(f'The store {root} could not be accessed: {error}.') from error


def sync_folder(path: Path) -> None:
    """Makes the names in folder ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Creates ``path`` and its parents, each made to survive a power cut."""
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in absent:
        sync_folder(folder.parent)


def write_atomically(path: Path, chunks: Iterable[bytes], shared: bool = False, new: bool = False) -> int:
    """Writes ``chunks`` under a temporary name, flushes them to the disk, renames, and flushes the folder.

    The temporary name depends on ``path`` alone: the caller holds the lock that covers ``path``, so whatever a killed
    process left under that name is dead, and is overwritten.

    Args:
        path: The file.
        chunks: Its content.
        shared: There is no such lock: the temporary name is this call's alone, with host and process in it.
        new: Leave a file alone that is there already, and raise ``FileExistsError``.

    Returns:
        The number of bytes written.

    Raises:
        OSError: As the operating system has it; the temporary file is gone by then.
    """
    temporary = path.with_name(f'{path.name}{_own_name() if shared else ""}{TMP_SUFFIX}')
    size = 0
    try:
        with open(temporary, 'wb') as file:
            for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(temporary, path)
            temporary.unlink()
        else:
            os.replace(temporary, path)
    except BaseException:  # also on Ctrl-C: nothing half-written stays behind
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def _own_name() -> str:
    host = re.sub(r'\W', '-', socket.gethostname())
    return f'.by-{host}-{os.getpid()}-{secrets.token_hex(4)}'


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file, memory-mapped where it has any; ``OSError`` if it cannot be opened."""
    with open(path, 'rb') as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            return b''


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; ``OSError`` if it cannot be read."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def refuse_foreign(place: object, names: Iterable[str], shards: bool = False) -> None:
    """Refuses to make a store where there is something else.

    Args:
        place: What to call the folder.
        names: The paths of the files in it, those of folders ending in a slash.
        shards: Whether there may be shards, which an interrupted copy leaves.

    Raises:
        StoreError: There is a file that an interrupted process would not have left; it is named.
    """
    for name in sorted(names):
        folder, _, file = final_name(name).rpartition('/')
        ours = (shards and parse_view(folder) is not None and parse_shard(file) is not None if folder
                else file in (MANIFEST_NAME, TEXT_NAME, INDEX_NAME, LOCK_NAME))
        if not ours:
            raise StoreError(f'{place} is not a store and not empty (it has {name.rstrip("/")}): choose a new place.')
