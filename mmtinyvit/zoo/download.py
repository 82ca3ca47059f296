"""One file over HTTP, whole or not at all: what a dropped connection left is gone on with, not thrown away."""
import errno
import json
import os
import socket
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mmtinyvit.errors import UserError

__all__ = ['download']

TRIES = 5  # in a row that bring nothing new
PAUSE = 0.5  # seconds before the second try; doubles from try to try
TIMEOUT = 30.
CHUNK = 2**20
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
Report = Callable[[int, int | None], None]


def download(url: str, part: Path, file: BinaryIO, report: Report | None = None) -> None:
    """Bring ``file`` to the end of what is at ``url``, starting from what it holds.

    What is there is only kept if the server says that it is still the beginning of the same file (``If-Range``). The
    server's name for that version lies beside it, under the name of ``part`` with ``.version``.

    Args:
        url: An ``http`` or ``https`` address.
        part: Path of ``file``.
        file: Open for reading and writing.
        report: Called with the bytes that are there and the bytes of the whole, or None, whenever more has arrived.

    Raises:
        UserError: The address is wrong, the server cannot be reached or fails again and again, or the disk is full.
            What has arrived stays.
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
            reason = str(getattr(error, 'reason', None) or error or type(error).__name__)
            if isinstance(getattr(error, 'reason', None), (socket.gaierror, ConnectionRefusedError)):
                raise UserError(f'{url} cannot be reached ({reason}): is this machine online? Name a mirror, or bring '
                                'the file from another machine.') from error
        except OSError as error:
            if error.errno in FULL:
                raise UserError(f'The disk is full ({error.strerror}) while downloading {url}: free some room, or name '
                                'another folder; what has arrived is kept.') from error
            raise
        failures = 1 if file.seek(0, os.SEEK_END) > before else failures + 1
        if failures == TRIES:
            raise UserError(f'{url} cannot be downloaded ({reason}): check the connection and run it again, it goes '
                            'on where it stopped; or get the file on another machine.')
        time.sleep(PAUSE * 2**(failures - 1))


def _go_on(url: str, part: Path, file: BinaryIO, report: Report | None) -> None:
    """One request. A connection that ends early is a :class:`ConnectionError`."""
    done = file.seek(0, os.SEEK_END)
    note = part.with_name(f'{part.name}.version')
    version = _read_version(note, url) if done else None
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
        while data := _read(response):
            file.write(data)
            file.flush()  # a killed process must not lose it
            done += len(data)
            if report:
                report(done, total)
        if total is not None and done < total:
            raise ConnectionError(f'the connection ended after {done:,} of {total:,} bytes')


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except OSError as error:  # a time-out and a fault of TLS, too
        raise ConnectionError(str(error)) from error


def _read_version(note: Path, url: str) -> str | None:
    try:
        found = json.loads(note.read_text())
        return found['version'] if found['url'] == url else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
