"""Ranges of bytes of files at URLs, many at once, however unreliable the way there is."""
import errno
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

from ...errors import UserError
from ...store.connection import connect, explain, is_forbidden, lacks_credentials, short_reason

__all__ = ['ByteRange', 'fetch_ranges', 'is_web', 'remote_size', 'try_remote']

_T = TypeVar('_T')

# A request takes about 20 ms, in which 1 MB would come; but what lies between two images is seldom more than a header.
_LARGEST_GAP = 2**16
_LARGEST_READ = 2**23  # bytes; one connection is as fast as it gets, and a failure repeats no more than that
_TRIES = 4
_PATIENCE = 60  # seconds; the protocol's library may have tried many times by then
_FIRST_PAUSE = 0.25  # seconds; doubled each time
_PAUSES = random.SystemRandom()  # not the generators that views are made with
_PASSING = {408, 425, 429}  # HTTP statuses from 400 to 499 that may be gone at the next try


class ByteRange(NamedTuple):
    """The bytes of the file at ``url`` from ``start`` to before ``end``; to its end if that is None."""
    url: str
    start: int = 0
    end: int | None = None


@dataclass
class _Read:
    """One request, which gets the wanted ranges at ``places``."""
    url: str
    start: int
    end: int | None
    places: list[int]


class _WrongLength(Exception):
    """Another number of bytes than was asked for."""


class _NoRanges(Exception):
    """A web server is about to send the whole file instead of a range."""


def fetch_ranges(ranges: Sequence[ByteRange]) -> list[bytes]:
    """The bytes of each range.

    Neighbours in a file come with one request, and all requests are on their way at the same time, as many as the
    library of the protocol allows. What fails for a reason that may pass (time-outs, lost connections, an overloaded
    server, fewer bytes than were asked for) is asked for again, after pauses that double: four times, unless a minute
    has gone by.

    Raises:
        UserError: A file is missing, may not be read or is shorter, or the last try failed; names the URL.
    """
    contents = [b''] * len(ranges)
    waiting, start_time = _merged(ranges), time.monotonic()
    for attempt in range(1, _TRIES + 1):
        failed: list[tuple[_Read, Exception]] = []
        for read, data in zip(waiting, _ask(waiting), strict=True):
            if isinstance(data, Exception):
                failed.append((read, data))
                continue
            for place in read.places:
                _, start, end = ranges[place]
                contents[place] = data if end is None else data[start - read.start:end - read.start]
        if not failed:
            return contents
        last = _is_last(attempt, start_time)
        for read, error in failed:
            if last or _lasts(error):
                raise UserError(_sentence(read, error, attempt)) from error
        _pause(attempt)
        waiting = [read for read, _ in failed]
    return contents


def try_remote(url: str, verb: str, call: Callable[[Any, str], _T]) -> _T:
    """What ``call`` returns for fsspec's file system of ``url`` and the path in it, tried as in :func:`fetch_ranges`.

    Args:
        url: A file or folder.
        verb: What is done to it, for the sentence.
        call: Sends the requests.

    Raises:
        FileNotFoundError: There is nothing at the URL.
        UserError: It failed for another reason, in one sentence.
    """
    start_time = time.monotonic()
    for attempt in count(1):
        system, path = connect(url, UserError)
        try:
            return call(system, path)
        except Exception as failure:  # each protocol's library has its own exceptions
            error = failure
            if isinstance(error, FileNotFoundError):
                cause = error.__cause__  # on the web, fsspec calls whatever goes wrong with `info` a missing file
                if cause is None or not is_web(url) or getattr(cause, 'status', None) == 404:
                    raise
                error = cause
            if _is_last(attempt, start_time) or _lasts(error):
                tried = f' in {attempt} tries' if attempt > 1 else ''
                raise UserError(explain(error, f'{verb} {url}{tried}')) from error
        _pause(attempt)


def is_web(url: str) -> bool:
    """Whether a web server answers for ``url``."""
    return url.startswith(('http://', 'https://'))


def remote_size(url: str) -> int | None:
    """Bytes of the file at ``url``; None if the server does not tell.

    Raises:
        UserError: The file is missing or may not be read, or the server cannot be reached.
    """
    def size(system: Any, path: str) -> int | None:
        system.invalidate_cache()
        return system.size(path)

    try:
        return try_remote(url, 'read', size)
    except FileNotFoundError as error:
        raise UserError(_sentence(_Read(url, 0, None, []), error, 1)) from error


def _is_last(attempt: int, start_time: float) -> bool:
    return attempt == _TRIES or time.monotonic() - start_time > _PATIENCE


def _pause(attempt: int) -> None:
    time.sleep(_FIRST_PAUSE * 2**(attempt - 1) * _PAUSES.uniform(0.5, 1.5))


def _merged(ranges: Sequence[ByteRange]) -> list[_Read]:
    """The requests that get all ranges."""
    reads: list[_Read] = []
    whole: dict[str, _Read] = {}
    for place in sorted((i for i, wanted in enumerate(ranges) if wanted.end is not None), key=ranges.__getitem__):
        url, start, end = ranges[place]
        last = reads[-1] if reads else None
        if last and last.url == url and start - last.end <= _LARGEST_GAP and end - last.start <= _LARGEST_READ:
            last.end = max(last.end, end)
            last.places.append(place)
        else:
            reads.append(_Read(url, start, end, [place]))
    for place, (url, start, end) in enumerate(ranges):
        if end is None:
            whole.setdefault(url, _Read(url, start, end, [])).places.append(place)
    return reads + list(whole.values())


def _ask(reads: Sequence[_Read]) -> list[bytes | Exception]:
    """What comes back for each request: as many bytes as it is about, or why not."""
    found: list[bytes | Exception] = [b''] * len(reads)
    groups: dict[int, tuple] = {}  # by file system, which other URLs may share
    for place, read in enumerate(reads):
        if read.start != read.end:
            system, path = connect(read.url, UserError)
            groups.setdefault(id(system), (system, [], []))[1].append(place)
            groups[id(system)][2].append(path)
    for system, places, paths in groups.values():
        starts, ends = zip(*((reads[place].start, reads[place].end) for place in places), strict=True)
        # for the web, aiohttp calls this with the headers of each answer, before its body is read
        options = dict(raise_for_status=_require_range) if 'http' in system.protocol else {}
        try:
            answers = system.cat_ranges(paths, list(starts), list(ends), on_error='return', **options)
        except Exception as error:  # each protocol's library has its own exceptions
            answers = [error] * len(places)
        for place, answer in zip(places, answers, strict=True):
            found[place] = answer if isinstance(answer, Exception) else _checked(reads[place], bytes(answer))
    return found


async def _require_range(response: Any) -> None:
    """Raise :class:`_NoRanges` if more than the range is on its way: an archive may be larger than the memory."""
    first, _, last = response.request_info.headers.get('Range', '').removeprefix('bytes=').partition('-')
    if response.status != 200 or not last:
        return
    coming, wanted = response.content_length, int(last) - int(first) + 1
    if coming is None or coming > wanted:
        response.close()
        raise _NoRanges(f'{"all" if coming is None else coming} bytes were sent instead of {wanted}')


def _checked(read: _Read, data: bytes) -> bytes | Exception:
    if read.end is None or len(data) == read.end - read.start:
        return data
    return _WrongLength(f'{len(data)} bytes came instead of {read.end - read.start}')


def _lasts(error: Exception) -> bool:
    """Whether the next try would fail the same way."""
    status = getattr(error, 'status', None) or 0
    return (isinstance(error, FileNotFoundError | NotImplementedError | ImportError | ValueError | TypeError)
            or isinstance(error, _NoRanges) or lacks_credentials(error) or is_forbidden(error)
            or getattr(error, 'errno', None) == errno.EINVAL
            or (400 <= status < 500 and status not in _PASSING))


def _sentence(read: _Read, error: Exception, tries: int) -> str:
    if isinstance(error, FileNotFoundError):
        return (f'There is no {read.url} ({short_reason(error)}): put it there, correct data_root, or write the image '
                'index again with "mmtinyvit index".')
    if isinstance(error, _NoRanges):
        return (f'The web server of {read.url} does not know ranges ({short_reason(error)}): put the file on one that '
                'does, into a bucket, or on this machine.')
    wrong_length = isinstance(error, _WrongLength)
    if read.end is not None and (wrong_length or getattr(error, 'errno', None) == errno.EINVAL):
        size = remote_size(read.url)
        if size is not None and size < read.end:
            return (f'{read.url} has {size} bytes, but the image index names bytes up to {read.end}: put the file '
                    'there that was indexed, or write the index again with "mmtinyvit index".')
    what = read.url if read.end is None else f'bytes {read.start} to {read.end} of {read.url}'
    tried = f' in {tries} tries' if tries > 1 else ''
    if wrong_length:
        return f'It failed to read {what}{tried} ({short_reason(error)}): check the network and the server.'
    return explain(error, f'read {what}{tried}')
