"""The folder of downloaded checkpoints: each file whole, checked, and with its checksum beside it.

What a dropped connection left of a file is gone on with, not thrown away.
"""
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from mmtinyvit.errors import UserError
from mmtinyvit.store.cache import cache_folder
from mmtinyvit.store.files import FULL, file_sha256, write_atomically
from mmtinyvit.store.locks import wait_for_lock

from .index import entry_at

__all__ = ['checkpoint_folder', 'download', 'fetch', 'local_path', 'recorded_sha256']

TRIES = 5  # in a row that bring nothing new
PAUSE = 0.5  # seconds before the second try; doubles from try to try
TIMEOUT = 30.
CHUNK = 2**20
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
Report = Callable[[int, int | None], None]


def checkpoint_folder(given: str | Path | None = None) -> Path:
    """Where checkpoints are kept: ``given``, or ``checkpoints`` in the cache of this library.

    The cache is ``$MMTINYVIT_CACHE``, or ``mmtinyvit`` in the user's cache, as for remote stores.
    """
    return Path(given).expanduser() if given else cache_folder() / 'checkpoints'


def local_path(url: str, folder: str | Path | None = None) -> Path:
    """Where the file at ``url`` is kept; files that no metafile lists are kept apart by their address."""
    own_folder = '' if entry_at(url) else hashlib.sha256(url.encode()).hexdigest()[:8]
    return checkpoint_folder(folder) / own_folder / Path(urlparse(url).path).name


def recorded_sha256(path: Path) -> str | None:
    """The checksum that was recorded when ``path`` was downloaded, None if it never was."""
    try:
        return _record(path).read_text().split()[0]
    except (OSError, IndexError):
        return None


def _record(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')


def fetch(url: str, path: Path, sha256: str | None = None, report: Report | None = None,
          check: Callable[[Path], object] | None = None) -> Path:
    """The file at ``url``, downloaded to ``path`` unless it is there already.

    It arrives under another name, is checked, its checksum is recorded beside it in the form of ``sha256sum``, and only
    then it gets its own. A file that is there is held to its record, and downloaded again if it has changed. Several
    processes may ask for the same file: one downloads it.

    Args:
        url: An ``http`` or ``https`` address.
        path: Where to keep it; also what is returned.
        sha256: What its checksum must be, or begin with.
        report: Called with the bytes that are there and the bytes of the whole, or None, whenever more has arrived.
        check: Called with the path of what has arrived; raises :class:`UserError` if it is unfit.

    Raises:
        UserError: It cannot be downloaded or kept, its checksum is wrong, or ``check`` refuses it. Only what a dropped
            connection left stays, for the next time.
    """
    wanted = sha256 or recorded_sha256(path)
    if _is_there(path, wanted):
        return path
    part = path.with_name(f'{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(part) as file:
            unfinished = False
            try:
                if not _is_there(path, wanted):  # or another process was faster
                    unfinished = True
                    download(url, part, file, report)
                    os.fsync(file.fileno())
                    unfinished = False
                    _accept(url, path, part, wanted, sha256 is None, check)
            finally:
                if not (unfinished and part.stat().st_size):
                    for leftover in (part, part.with_name(f'{part.name}.version')):
                        leftover.unlink(missing_ok=True)
    except OSError as error:
        what = 'is full' if error.errno in FULL else 'cannot be used'
        raise UserError(f'The folder {path.parent} for checkpoints {what} ({error.strerror or error}): choose another '
                        'folder, or set MMTINYVIT_CACHE.') from error
    return path


def _accept(url: str, path: Path, part: Path, wanted: str | None, is_record: bool,
            check: Callable[[Path], object] | None) -> None:
    """Give ``part`` its own name if it is what was wanted."""
    found = file_sha256(part)
    if wanted and not found.startswith(wanted):
        expected = f'{wanted} of the first download, which {_record(path)} holds' if is_record else wanted
        way_out = 'delete that record if the publisher has changed the file' if is_record else 'try again'
        raise UserError(f'{url} has the checksum {found} instead of {expected}: nothing was kept; {way_out}.')
    if check:
        check(part)
    write_atomically(_record(path), [f'{found}  {path.name}\n'.encode()])
    os.replace(part, path)


def _is_there(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or file_sha256(path).startswith(sha256))


def _lock(part: Path) -> BinaryIO:
    """The unfinished file, open, and locked where the file system can: closing it lets the next process go on."""
    while True:
        file = open(part, 'ab+')
        if not wait_for_lock(file):
            return file
        try:
            if os.path.samestat(os.stat(part), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:  # whoever held the lock has finished it
            pass
        file.close()


def download(url: str, part: Path, file: BinaryIO, report: Report | None = None) -> None:
    """Bring ``file``, open at the path ``part``, to the end of what is at ``url``, starting from what it holds.

    What is there is only kept if the server says that it is still the beginning of the same file (``If-Range``). The
    server's name for that version lies beside it, under the name of ``part`` with ``.version``.
    """
    failures = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            _go_on(url, part, file, report)
            return
        except HTTPError as error:
            if error.code not in TEMPORARY:
                raise UserError(f'{url} cannot be downloaded (HTTP {error.code} {error.reason}): check the '
                                'address.') from error
            reason = f'HTTP {error.code} {error.reason}'
        except (URLError, HTTPException, ConnectionError) as error:
            cause = getattr(error, 'reason', error)
            reason = str(cause) or type(error).__name__
            if isinstance(cause, (socket.gaierror, ConnectionRefusedError)):
                raise UserError(f'{url} cannot be reached ({reason}): is this machine online? Name a mirror, or bring '
                                'the file from another machine.') from error
        failures = 1 if file.seek(0, os.SEEK_END) > before else failures + 1
        if failures == TRIES:
            raise UserError(f'{url} cannot be downloaded ({reason}): check the connection and run it again, it goes '
                            'on where it stopped; or get the file on another machine.')
        time.sleep(PAUSE * 2**(failures - 1))


def _go_on(url: str, part: Path, file: BinaryIO, report: Report | None) -> None:
    """One request. A connection that ends early is a :class:`ConnectionError`."""
    done = file.seek(0, os.SEEK_END)
    note = part.with_name(f'{part.name}.version')
    try:
        noted = json.loads(note.read_text())
    except (OSError, ValueError):  # there is none, or a killed process left half of it
        noted = {}
    version = noted.get('version') if done and noted.get('url') == url else None
    headers = {'User-Agent': 'mmtinyvit', 'Accept-Encoding': 'identity'}
    if version:
        headers |= {'Range': f'bytes={done}-', 'If-Range': version}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:  # the server has nothing beyond what is here: start over
            raise
        file.truncate(0)
        raise ConnectionError('the server has a shorter file than before') from error
    with response:
        if not (version and response.status == 206
                and response.headers.get('Content-Range', '').startswith(f'bytes {done}-')):
            if response.status != 200:
                raise ConnectionError(f'the server answered HTTP {response.status}')
            done = file.seek(0)
            file.truncate()
            version = response.headers.get('ETag') or response.headers.get('Last-Modified') or ''
            note.write_text(json.dumps(dict(url=url, version='' if version.startswith('W/') else version)))
        length = response.headers.get('Content-Length')
        total = done + int(length) if length else None
        while True:
            try:
                data = response.read1(CHUNK)
            except OSError as error:  # a time-out and a fault of TLS, too
                raise ConnectionError(str(error)) from error
            if not data:
                break
            file.write(data)
            file.flush()  # a killed process must not lose it
            done += len(data)
            if report:
                report(done, total)
        if total is not None and done < total:
            raise ConnectionError(f'the connection ended after {done:,} of {total:,} bytes')
