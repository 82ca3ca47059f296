"""The folder or bucket that holds a data set: listing it and opening its files, here or at a URL."""
import html
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

from ...errors import UserError
from ...store.connection import connect
from ...store.folders import is_url
from .remote_bytes import ByteRange, fetch_ranges, is_web, try_remote

__all__ = ['ByteFile', 'DataRoot', 'Entry', 'is_hidden', 'join_root', 'part_of']

_BLOCK = 2**23  # bytes that are fetched ahead while an archive at a URL is listed from its first byte to its last
_ASKED_AT_ONCE = 16  # sizes of files
_ARCHIVES = ('.zip', '.tar')  # the files whose size must be known
# Folders of macOS, of file servers and of file systems
_SYSTEMS = frozenset(('__MACOSX', '@eaDir', '#recycle', '$RECYCLE.BIN', 'System Volume Information', 'lost+found'))
_IN_URLS = "%/:?#[]@!$&'()*+,;="  # what has a meaning in a URL, or is quoted already


def is_hidden(name: str) -> bool:
    """Whether a path, or one of its folders, is hidden or a system's own: it holds no images of a data set, anywhere.

    Such are ``._x.jpg`` and ``__MACOSX`` of macOS, ``.ipynb_checkpoints``, and ``@eaDir`` of file servers.
    """
    return any(part in _SYSTEMS or (part.startswith('.') and part not in ('.', '..')) for part in name.split('/'))


def join_root(root: str, name: str) -> str:
    """The path or URL of the file ``name``, with forward slashes, below ``root``."""
    if not is_url(root):
        return os.path.join(root, name)
    if is_web(root):
        root, name = quote(root, _IN_URLS), quote(name, errors='surrogateescape')
    return f'{root.rstrip("/")}/{name}'


class Entry(NamedTuple):
    """What a folder holds.

    Attributes:
        name: Path below the data root, with forward slashes.
        is_dir: Whether it is a folder.
        size: Bytes of a file; 0 if it is no archive and a web server does not tell.
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
        self._is_url = is_url(self.root)
        self._path = connect(join_root(self.root, ''), UserError)[1] if self._is_url else ''

    def __str__(self) -> str:
        return self.root

    def entries(self) -> list[Entry]:
        """The folder's files and folders, sorted; hidden ones and a system's own are left out.

        Raises:
            UserError: It cannot be listed.
        """
        try:
            found = self._remote_entries() if self._is_url else self._local_entries()
        except OSError as error:
            raise UserError(f'The data root {self.root} cannot be listed ({error.strerror or error}): name the folder '
                            'or URL that holds the images, in folders or archives.') from error
        return sorted(entry for entry in found if not is_hidden(entry.name))

    def _local_entries(self) -> list[Entry]:
        with os.scandir(self.root) as found:
            return [_local_entry(entry.name, entry.path) for entry in found if os.path.exists(entry.path)]

    def _remote_entries(self) -> list[Entry]:
        found = self._links('') if is_web(self.root) else self._listed('')
        return self._with_sizes(entry for entry in found if entry.name)

    def _listed(self, folder: str) -> list[Entry]:
        def listed(system: Any, path: str) -> list[dict[str, Any]]:
            system.invalidate_cache()
            return system.ls(path, detail=True)

        found = try_remote(join_root(self.root, folder), 'list', listed)
        return [_remote_entry(info['name'].rstrip('/')[len(self._path) + 1:], info) for info in found]

    def _links(self, folder: str) -> list[Entry]:
        """What the page links to that a web server shows for a folder."""
        url = join_root(self.root, folder)
        try:
            found = try_remote(url, 'list', lambda system, path: system.ls(path, detail=True))
        except (FileNotFoundError, UserError) as error:
            status = getattr(error.__cause__, 'status', 404)
            if isinstance(error, UserError) and status not in (401, 403, 405):
                raise
            raise UserError(self._not_listed(url, f'status {status}')) from error
        if not found and not folder:
            raise UserError(self._not_listed(url, 'no links'))
        top = len(self._path.partition('://')[2]) + 1
        entries = []
        for info in found:
            link = html.unescape(info['name'].partition('://')[2][top:])
            if '?' not in link and '#' not in link:  # which would sort the list
                name = posixpath.normpath(unquote(link, errors='surrogateescape')) if link else ''
                entries.append(_remote_entry(name, info))
        return entries

    def _not_listed(self, url: str, reason: str) -> str:
        return (f'The web server does not list {url} ({reason}): name an archive by its own URL, such as '
                f'{join_root(self.root, "train.tar")}, or write the index where the files are.')

    def _with_sizes(self, entries: Iterable[Entry]) -> list[Entry]:
        """``entries``, where the sizes of archives that a listing did not tell are asked for."""
        def sized(entry: Entry) -> Entry:
            unknown = is_web(self.root) and not entry.is_dir and entry.name.lower().endswith(_ARCHIVES)
            return self.entry(entry.name) if unknown else entry

        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            return list(pool.map(sized, entries))

    def entry(self, name: str) -> Entry:
        """One file or folder below the root.

        Raises:
            OSError: There is none.
            UserError: A server cannot be reached or does not tell its size.
        """
        if not self._is_url:
            return _local_entry(name, os.path.join(self.root, name))
        url = join_root(self.root, name)
        info = try_remote(url, 'read', lambda system, path: system.info(path))
        if info.get('size') is None and info['type'] == 'file':
            raise UserError(f'The server does not tell how large {url} is: put the file on one that does, into a '
                            'bucket, or on this machine.')
        return _remote_entry(name, info)

    def walk(self, folder: str) -> Iterator[str]:
        """The names of all files under ``folder``, below the root, in no order.

        Links are followed, but for those to a folder that they are in. One that leads nowhere is named with a slash at
        its end.

        Raises:
            OSError: A folder cannot be listed.
            UserError: It is at a URL and cannot be listed.
        """
        if self._is_url:
            yield from (entry.name for entry in self._remote_walk(folder))
            return
        yield from _walk(os.path.join(self.root, folder), f'{folder}/' if folder else '',
                         {_identity(os.path.realpath(self.root))} if folder else set())

    def _remote_walk(self, folder: str) -> Iterator[Entry]:
        if is_web(self.root):
            for entry in self._links(folder):
                if entry.is_dir and entry.name != folder:
                    yield from self._remote_walk(entry.name)
                elif not entry.is_dir:
                    yield entry
            return
        found = try_remote(join_root(self.root, folder), 'list', lambda system, path: system.find(path, detail=True))
        yield from (_remote_entry(name[len(self._path) + 1:], info) for name, info in found.items())

    def open(self, name: str) -> BinaryIO:
        """A file below the root, to be read and sought in.

        Raises:
            OSError: There is none.
            UserError: It is at a URL and cannot be read, now or later.
        """
        if not self._is_url:
            return open(os.path.join(self.root, name), 'rb')
        url, size = join_root(self.root, name), self.entry(name).size

        def read_at(start: int, count: int) -> bytes:
            return fetch_ranges([ByteRange(url, start, start + min(count, _BLOCK))])[0]

        return BufferedReader(ByteFile(size, read_at), max(1, min(size, _BLOCK)))

    def read(self, name: str, limit: int) -> bytes | None:
        """The first ``limit`` bytes of a file below the root, all of it if it is shorter; None if there is none.

        Raises:
            OSError: It cannot be read.
            UserError: It is at a URL and cannot be read.
        """
        try:
            with self.open(name) as file:
                return file.read(limit)
        except FileNotFoundError:
            return None

    def glob(self, pattern: str) -> list[Entry]:
        """The files below the root whose names match a shell pattern, at any depth, sorted.

        A pattern that is the name of a file stands for that file, which a server need not list.
        """
        is_name = not any(mark in pattern for mark in '*?[')
        try:
            return [self.entry(pattern)]
        except OSError:
            if is_name:
                return []
        except UserError:
            if is_name:
                raise
        if self._is_url:
            return sorted(self._with_sizes(e for e in self._remote_walk('') if fnmatchcase(e.name, pattern)))
        return sorted(self.entry(name) for name in self.walk('')
                      if fnmatchcase(name, pattern) and not name.endswith('/'))


def _walk(path: str, inside: str, above: set[tuple[int, int]]) -> Iterator[str]:
    """The regular files and broken links under a local folder; ``above`` are the folders that lead to it."""
    here = _identity(path)
    if here in above:
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_symlink() and not os.path.exists(entry.path):  # or to itself, for which is_dir() raises
                yield f'{inside}{entry.name}/'
            elif entry.is_dir():
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
    changed = next((info[key] for key in ('ETag', 'LastModified', 'Last-Modified', 'mtime') if info.get(key)), '')
    return Entry(name, info['type'] == 'directory', size, f'{size} {changed}')


class ByteFile(RawIOBase):
    """Bytes somewhere, as a file.

    Args:
        size: How many there are.
        read_at: Gives at most ``count`` bytes from ``start``, as ``read_at(start, count)``.
    """

    def __init__(self, size: int, read_at: Callable[[int, int], bytes]) -> None:
        self._size, self._read_at, self._position = size, read_at, 0

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
        data = self._read_at(self._position, count)
        buffer[:len(data)] = data
        self._position += len(data)
        return len(data)


def part_of(file: BinaryIO, start: int, size: int) -> BinaryIO:
    """Bytes ``start`` to ``start + size`` of an open file, as a file: an archive inside an archive."""
    def read_at(position: int, count: int) -> bytes:
        file.seek(start + position)
        return file.read(count)

    return BufferedReader(ByteFile(size, read_at))
