"""Files that are either whole or absent, and operating system errors turned into sentences."""
import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import StoreError
from .layout import (
    INDEX_NAME,
    LOCK_NAME,
    MANIFEST_NAME,
    TEXT_NAME,
    finished_name,
    is_shared,
    parse_shard,
    parse_view,
    temporary_name,
    view_name,
)

__all__ = ['FULL', 'file_sha256', 'list_shards', 'make_folder', 'make_own_folder', 'map_file', 'open_file', 'open_own',
           'reading', 'refuse_foreign', 'refuse_linked_folder', 'sync_folder', 'translated', 'way_out',
           'write_atomically']

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_AT_ONCE = getattr(os, 'O_NONBLOCK', 0)  # for a FIFO, which would wait for its other side
_NOT_LINKED = getattr(os, 'O_NOFOLLOW', 0)


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
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise StoreError(f'The store {root} could not be accessed ({error.strerror}): {way_out(error)}.') from error
        if error.errno in _FORBIDDEN:
            raise StoreError(f'Cannot write to the store {root} ({error.strerror}): choose a folder that you may '
                             'write to, or change its permissions.') from error
        if isinstance(error, FileNotFoundError) and not Path(root).exists():
            raise StoreError(f'The store {root} is gone: it was deleted or moved while it was in use; start again, or '
                             'put it back.') from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise StoreError(f'Cannot make the store {root}, because {error.filename} is in the way and is not a '
                             'folder: choose another path.') from error
        raise StoreError(f'The store {root} could not be accessed: {error}.') from error


@contextmanager
def reading(root: object) -> Iterator[None]:
    """Turns an ``OSError`` inside the block into a :class:`StoreError` about the store at ``root``, which is read."""
    try:
        yield
    except OSError as error:
        raise StoreError(f'The store {root} cannot be read ({error.filename or root}: {error.strerror or error}): '
                         f'{way_out(error)}.') from error


def way_out(error: OSError, otherwise: str = 'check the disk and the permissions') -> str:
    """What to do about a file that cannot be opened."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return 'allow this process more open files (ulimit -n), or open stores with a smaller max_open_shards'
    return otherwise


# ---------------------------------------------------------------- opening
def _open_regular(path: str, flags: int) -> int:
    fd = os.open(path, flags | _AT_ONCE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, 'it is not a regular file', str(path))
    return fd


def open_file(path: Path) -> BinaryIO:
    """Opens a file for reading; ``OSError`` if it cannot be, and at once if it is a FIFO, a device or a folder."""
    return open(path, 'rb', opener=_open_regular)


def open_own(path: str | Path, flags: int) -> int:
    """Opens a file that is changed in place, and makes it if there is none; for ``opener=`` of :func:`open` too.

    Returns:
        The file's descriptor.

    Raises:
        StoreError: It is a symbolic link, has other names, or is no file: what it leads to is not the store's.
    """
    link = StoreError(f'{path} is a link or a special file, and writing to it would change something outside of the '
                      'store: delete it.')
    try:
        fd = os.open(path, flags | os.O_CREAT | getattr(os, 'O_CLOEXEC', 0) | _AT_ONCE | _NOT_LINKED, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise link from error
        raise
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        raise link
    return fd


# ---------------------------------------------------------------- folders
def list_shards(root: Path, view: int) -> set[int]:
    """The shards of ``view`` that are there; temporary and foreign files are not counted.

    Raises:
        StoreError: The folder cannot be listed.
    """
    with reading(root):
        try:
            found = {parse_shard(name) for name in os.listdir(root / view_name(view))}
        except (FileNotFoundError, NotADirectoryError):
            return set()
    return found - {None}


def sync_folder(path: Path) -> None:
    """Makes the names in folder ``path`` survive a power cut, where the system can."""
    if not hasattr(os, 'O_DIRECTORY'):
        return
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


def make_own_folder(path: Path) -> None:
    """Creates a folder of a store, in one that exists; it survives a power cut.

    Raises:
        StoreError: As :func:`refuse_linked_folder`.
    """
    try:
        path.mkdir()
    except FileExistsError:
        refuse_linked_folder(path)
    else:
        sync_folder(path.parent)


def refuse_linked_folder(path: Path) -> None:
    """Raises :class:`StoreError` if a folder of a store is a link: what it leads to is not the store's to change."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise StoreError(f'{path} is a link, or no folder, and a store is written only into folders of its own: put '
                         'the folder that it leads to in its place.')


# ---------------------------------------------------------------- whole files
def write_atomically(path: Path, chunks: Iterable[bytes], shared: bool = False, new: bool = False) -> int:
    """Writes ``chunks`` under a temporary name, flushes them to the disk, renames, and flushes the folder.

    The caller holds the lock that covers ``path``, so whatever other processes have left of it under one is dead, and
    goes.

    Args:
        path: The file.
        chunks: Its content.
        shared: There is no such lock: other processes may be writing the same file, and what they have left stays.
        new: Leave a file alone that is there already, and raise ``FileExistsError``.

    Returns:
        The number of bytes written.

    Raises:
        OSError: As the operating system has it; the temporary file is gone by then.
    """
    for name in () if shared else os.listdir(path.parent):
        if finished_name(name) == path.name and not is_shared(name):  # a part may be at it
            path.with_name(name).unlink(missing_ok=True)
    temporary = path.with_name(temporary_name(path.name, shared))
    size = 0
    try:
        with open(temporary, 'xb') as file:
            for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _name_new(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:  # also on Ctrl-C: nothing half-written stays behind
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def _name_new(temporary: Path, path: Path) -> None:
    """Renames a file unless there is one of that name; ``FileExistsError`` then."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():  # a file system without hard links: the caller compares what is there afterwards
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file, memory-mapped where it has any; ``OSError`` if it cannot be opened."""
    with open_file(path) as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            return b''


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; ``OSError`` if it cannot be read."""
    with open_file(path) as file:
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
        folder, _, file = name.rpartition('/')
        file = finished_name(file) or file
        ours = (shards and parse_view(folder) is not None and parse_shard(file) is not None if folder
                else file in (MANIFEST_NAME, TEXT_NAME, INDEX_NAME, LOCK_NAME))
        if not ours:
            raise StoreError(f'{place} is not a store and not empty (it has {name.rstrip("/")}): choose a new place.')
