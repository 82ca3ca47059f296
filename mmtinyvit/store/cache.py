"""The cache of a machine: files from elsewhere, kept whole, which all processes share."""
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreError
from .files import FULL, sync_folder
from .locks import wait_for_lock

__all__ = ['alone', 'cache_folder', 'cache_limit', 'caching', 'keep_file']

_SLOTS = 64
_PART = '.part'


def cache_folder(given: str | Path | None = None) -> Path:
    """Where files from elsewhere are kept: ``given``, else ``$MMTINYVIT_CACHE``, else ``mmtinyvit`` in the user's
    cache."""
    chosen = given or os.environ.get('MMTINYVIT_CACHE')
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmtinyvit'


def cache_limit(given: int | None = None, variable: str = 'MMTINYVIT_CACHE_BYTES') -> int | None:
    """How many bytes to keep: ``given``, else what the environment's ``variable`` says, else None.

    Raises:
        StoreError: It is not a whole number from 1.
    """
    chosen = os.environ.get(variable) if given is None else given
    if chosen in (None, ''):
        return None
    if not str(chosen).isdecimal() or int(chosen) < 1:
        correct = variable if given is None else 'cache_bytes'
        raise StoreError(f'The size of the cache must be a whole number of bytes from 1, not {chosen!r}: correct '
                         f'{correct}.')
    return int(chosen)


def keep_file(cache: Path, path: Path, fetch: Callable[[Path], None]) -> bool:
    """Has ``fetch`` write the file ``path`` below ``cache``, unless it is there; returns whether it did.

    ``fetch`` gets a name of its own, and raises if what came is not right; then the file is flushed and renamed. While
    one process fetches, others that want the same file wait for it, where the file system knows ``flock``; elsewhere
    they fetch it as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(cache, str(path)) as single:
        if path.exists():
            return False
        if single:
            for dead in path.parent.glob(f'{path.name}.*{_PART}'):
                dead.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(_PART, f'{path.name}.', path.parent)
        os.close(handle)  # Windows renames no open file
        part = Path(name)
        try:
            fetch(part)
            with open(part, 'rb+') as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)
    return True


@contextmanager
def alone(cache: Path, name: str) -> Iterator[bool]:
    """Waits for other processes that are at the same ``name``; False where the file system cannot tell."""
    locks = cache / 'locks'
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / f'{zlib.crc32(name.encode()) % _SLOTS:02d}', 'ab') as file:
        yield wait_for_lock(file)


@contextmanager
def caching(cache: Path, variable: str = 'MMTINYVIT_CACHE_BYTES') -> Iterator[None]:
    """Turns an ``OSError`` of the disk inside the block into a sentence; ``variable`` sets the cache's size.

    ``FileNotFoundError`` is left alone: the file is missing at the other side.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        change = 'name another folder with MMTINYVIT_CACHE'
        if error.errno in FULL:
            raise StoreError(f'The disk of the cache {cache} is full ({error.strerror}): free some room, give the '
                             f'cache a size with {variable}, or {change}.') from error
        raise StoreError(f'The cache {cache} cannot be used ({error.strerror or error}): {change}.') from error
