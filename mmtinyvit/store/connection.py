"""What is at a URL, through fsspec, and what can go wrong on the way there, in words."""
import errno
import re
from typing import Any

from ..errors import UserError
from .errors import StoreError
from .files import FULL

__all__ = ['connect', 'explain', 'is_forbidden', 'lacks_credentials', 'lacks_room', 'may_pass', 'short_reason']

_NO_ROOM = re.compile(r'quota|StorageFull|InsufficientStorage|InsufficientCapacity', re.IGNORECASE)


def connect(url: str, raises: type[UserError] = StoreError) -> tuple[Any, str]:
    """fsspec's file system for ``url``, and the path in it.

    To be called anew for each use, which takes microseconds: fsspec keeps one file system for each process, and its
    event loop does not survive a fork.

    Raises:
        UserError: fsspec or the library of the protocol is missing, or there is no such protocol; of type ``raises``.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise raises(f'{url} is a URL, which needs fsspec, and that is not installed: pip install '
                     '"mmtinyvit[remote]", or copy what is there to this machine by other means.') from error
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError, FileNotFoundError) as error:  # no such library, protocol, or file in a chain
        raise raises(f'fsspec cannot open {url} ({short_reason(error)}): install what it names, or check the '
                     'URL.') from error
    return system, path.rstrip('/')


def explain(error: BaseException, verb: str) -> str:
    """A sentence on a failure of fsspec or of the library behind it: which ``verb`` failed, why, and the way out."""
    if lacks_credentials(error):
        return (f'There are no credentials to {verb} ({short_reason(error)}): for S3 set AWS_ACCESS_KEY_ID and '
                'AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.')
    if is_forbidden(error):
        return (f'It is not allowed to {verb} with the credentials in use ({short_reason(error)}): check them, the '
                'URL, and the permissions of the bucket.')
    if lacks_room(error):
        return (f'There is no room to {verb} ({short_reason(error)}): raise the quota or free some room there, and '
                'start again.')
    return (f'It failed to {verb} ({type(error).__name__}: {short_reason(error)}): check the network and the URL, and '
            'start again.')


def lacks_credentials(error: BaseException) -> bool:
    """Whether no credentials were found."""
    return 'Credential' in type(error).__name__


def is_forbidden(error: BaseException) -> bool:
    """Whether the other side refuses who asks."""
    return (isinstance(error, PermissionError) or getattr(error, 'errno', None) in (errno.EACCES, errno.EPERM)
            or getattr(error, 'status', None) in (401, 403))


def lacks_room(error: BaseException) -> bool:
    """Whether the other side is full, or its quota is used up."""
    return (isinstance(error, OSError) and error.errno in FULL or getattr(error, 'status', None) == 507
            or bool(_NO_ROOM.search(f'{error} {error.__cause__}')))


def may_pass(error: BaseException) -> bool:
    """Whether it is worth while to try again."""
    return not (lacks_credentials(error) or is_forbidden(error) or lacks_room(error)
                or isinstance(error, ImportError | TypeError | ValueError))


def short_reason(error: BaseException) -> str:
    """The message of an error on one line, at most 200 characters of it."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f'{text[:200]}...'
