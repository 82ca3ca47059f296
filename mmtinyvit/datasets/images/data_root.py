"""The folder or bucket that holds a data set: listing it and opening its files, here or at a URL."""
import os
import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from ...errors import UserError
from ...store.connection import connect, explain
from ...store.folders import is_url

__all__ = ['DataRoot', 'Entry', 'FileRange', 'join_root']

_BLOCK = 2**23  # bytes that are fetched ahead while an archive at a URL is listed from its first byte to its last


def join_root(root: str, name: str) -> str:
    """The path or URL of the file ``name``, with forward slashes, below ``root``."""
    if not is_url(root):
        return os.path.join(root, name)
    return f'{root.rstrip("/")}/{quote(name) if root.startswith("http") else name}'


class Entry(NamedTuple):
    """What a folder holds.

    Attributes:
        name: Path below the data root, with forward slashes.
        is_dir: Whether it is a folder.
        size: Bytes of a file.
        stamp: Changes when the entry changes.
    """
    name: str
    is_dir: bool
    size: int
    stamp: str


class DataRoot:
    """A local folder, or a URL for fsspec.

    Args:
        root: The folder or URL.

    Raises:
        UserError: It is a URL, and fsspec or the protocol's library is not installed.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.fspath(root)
        self._system, self._path = connect(self.root, UserError) if is_url(self.root) else (None, '')

    def __str__(self) -> str:
        return self.root

    def entries(self) -> list[Entry]:
        """The folder's files and folders, sorted; hidden ones are left out.

        Raises:
            UserError: It cannot be listed.
        """
        try:
            found = self._remote_entries() if self._system else self._local_entries()
        except OSError as error:
            raise UserError(f'The data root {self.root} cannot be listed ({error.strerror or error}): name the folder '
                            'or URL that holds the images, in folders or archives.') from error
        except Exception as error:  # each protocol's library has its own exceptions
            raise UserError(explain(error, f'list {self.root}')) from error
        return sorted(entry for entry in found if not posixpath.basename(entry.name).startswith('.'))

    def _local_entries(self) -> list[Entry]:
        with os.scandir(self.root) as found:
            return [_local_entry(entry.name, entry.path) for entry in found if os.path.exists(entry.path)]

    def _remote_entries(self) -> list[Entry]:
        self._system.invalidate_cache()
        listed = self._system.ls(self._path, detail=True)
        names = [info['name'].rstrip('/')[len(self._path) + 1:] for info in listed]
        return [_remote_entry(name, info) for name, info in zip(names, listed, strict=True) if name]

    def entry(self, name: str) -> Entry:
        """One file or folder below the root. Raises ``OSError`` if there is none."""
        if self._system:
            return _remote_entry(name, self._system.info(self._inside(name)))
        return _local_entry(name, os.path.join(self.root, name))

    def walk(self, folder: str) -> Iterator[str]:
        """The names of all files under ``folder``, below the root, in no order.

        Links are followed, but for those to a folder that they are in. Raises ``OSError`` if a folder cannot be listed.
        """
        if self._system:
            yield from (name[len(self._path) + 1:] for name in self._system.find(self._inside(folder)))
            return
        yield from _walk(os.path.join(self.root, folder), f'{folder}/' if folder else '',
                         {_identity(os.path.realpath(self.root))} if folder else set())

    def open(self, name: str) -> BinaryIO:
        """A file below the root, to be read and sought in. Raises ``OSError``."""
        if self._system:
            return self._system.open(self._inside(name), 'rb', block_size=_BLOCK, cache_type='readahead')
        return open(os.path.join(self.root, name), 'rb')

    def glob(self, pattern: str) -> list[Entry]:
        """The files below the root whose names match a shell pattern, at any depth, sorted."""
        return sorted(self.entry(name) for name in self.walk('') if fnmatchcase(name, pattern))

    def _inside(self, name: str) -> str:
        return posixpath.join(self._path, name) if name else self._path


def _walk(path: str, inside: str, above: set[tuple[int, int]]) -> Iterator[str]:
    """The regular files under a local folder; ``above`` are the folders that lead to it."""
    here = _identity(path)
    if here in above:
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, f'{inside}{entry.name}/', above | {here})
            elif entry.is_file():
                yield f'{inside}{entry.name}'


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _local_entry(name: str, path: str) -> Entry:
    status = os.stat(path)
    return Entry(name, os.path.isdir(path), status.st_size, f'{status.st_size} {status.st_mtime_ns}')


def _remote_entry(name: str, info: dict[str, Any]) -> Entry:
    size = int(info.get('size') or 0)
    changed = info.get('ETag') or info.get('LastModified') or info.get('mtime') or ''
    return Entry(name, info['type'] == 'directory', size, f'{size} {changed}')


class FileRange(RawIOBase):
    """Bytes ``start`` to ``start + size`` of an open file, as a file: an archive inside an archive."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    @classmethod
    def buffered(cls, file: BinaryIO, start: int, size: int) -> BufferedReader:
        """The range with a buffer of its own."""
        return BufferedReader(cls(file, start, size))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[:len(data)] = data
        self._position += len(data)
        return len(data)
