"""A remote store, and a folder of this machine that keeps what was needed of it so far."""
import fcntl
import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from .admin.verify import file_faults, shard_faults
from .errors import StoreError
from .files import FULL, sync_folder
from .folders import RemoteFolder
from .layout import MANIFEST_NAME, Unit
from .manifest import Manifest, write_manifest
from .shard import Shard

__all__ = ['CachedFolder', 'cache_folder', 'cache_limit']

_SLOTS = 64
_TRIES = 8
_PART = '.part'


def cache_folder(given: str | Path | None = None) -> Path:
    """Where remote stores are kept: ``given``, else ``$MMTINYVIT_CACHE``, else ``mmtinyvit`` in the user's cache."""
    chosen = given or os.environ.get('MMTINYVIT_CACHE')
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmtinyvit'


def cache_limit(given: int | None = None) -> int | None:
    """How many bytes of shards to keep: ``given``, else ``$MMTINYVIT_CACHE_BYTES``, else None: all.

    Raises:
        StoreError: It is not a whole number from 1.
    """
    chosen = os.environ.get('MMTINYVIT_CACHE_BYTES') if given is None else given
    if chosen in (None, ''):
        return None
    if not str(chosen).isdecimal() or int(chosen) < 1:
        raise StoreError(f'The size of the cache must be a whole number of bytes from 1, not {chosen!r}: correct '
                         'cache_bytes, or MMTINYVIT_CACHE_BYTES.')
    return int(chosen)


class CachedFolder(RemoteFolder):
    """The files of a store at a URL, each downloaded when it is first needed.

    A file is downloaded whole to a name of its own, checked, flushed and renamed, so that any number of processes may
    share a cache and none ever sees half a file. While one downloads, others that want the same file wait for it, where
    the file system knows ``flock``; elsewhere they download it as well. Stores are kept apart by URL and identity, so
    that another store at the same URL is never mixed with the former one. What is kept of a store is itself a store.

    Args:
        url: The store's URL.
        cache: Folder of the cache; see :func:`cache_folder`.
        cache_bytes: How much the shards of all stores in the cache may take; beyond, those go that were not opened for
            the longest time. A shard that a process has open takes room until it is closed. See :func:`cache_limit`.
    """

    def __init__(self, url: str, cache: str | Path | None = None, cache_bytes: int | None = None) -> None:
        super().__init__(url)
        self.cache = cache_folder(cache).absolute()
        self.limit = cache_limit(cache_bytes)
        self._kept: Path | None = None

    def manifest(self) -> Manifest:
        """The store's manifest as it is at the URL now, checked."""
        manifest = super().manifest()
        place = hashlib.sha256(f'{self.root}\n{manifest.samples.index_sha256}'.encode()).hexdigest()[:8]
        kept = self.cache / 'stores' / f'{manifest.store_id.hex()}-{place}'
        with self._caching():
            kept.mkdir(parents=True, exist_ok=True)
            with self._alone(str(kept)):
                if not (kept / MANIFEST_NAME).exists():
                    write_manifest(kept, manifest)
            self._make_room()
        self._kept = kept
        return manifest

    def samples(self, manifest: Manifest) -> Path:
        """A folder that has both samples files."""
        for name, sha in manifest.sample_files.items():
            try:
                self._keep(name, partial(file_faults, sha=sha))
            except FileNotFoundError as error:
                raise StoreError(f'{self.where(name)} is not there: copy it again from where the store was '
                                 'written.') from error
        return self._kept

    def open_shard(self, manifest: Manifest, unit: Unit) -> Shard:
        """One shard, which is downloaded if it is not kept yet.

        Raises:
            FileNotFoundError: There is none at the URL.
            StoreError: It is damaged there, or cannot be downloaded or kept.
        """
        for _ in range(_TRIES):
            path = self._keep(unit.file, partial(shard_faults, manifest=manifest, unit=unit))
            with suppress(FileNotFoundError):  # another process made room just now
                return Shard(path, manifest, unit)
        raise StoreError(f'The cache {self.cache} is too small for what is read at once: give it more than '
                         f'{self.limit} bytes (cache_bytes, or MMTINYVIT_CACHE_BYTES).')

    # ---------------------------------------------------------------- keeping
    def _keep(self, file: str, faults: Callable[[Path], Iterable[str]]) -> Path:
        """The path of a file in the cache."""
        path = self._kept / file
        with self._caching():
            if path.exists():
                with suppress(OSError):  # somebody else's cache may be read as well
                    os.utime(path)  # used just now
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone(str(path)) as alone:
                if not path.exists():
                    if alone:
                        for dead in path.parent.glob(f'{path.name}.*{_PART}'):
                            dead.unlink(missing_ok=True)
                    self._download(file, path, faults)
                    self._make_room(path)
        return path

    def _download(self, file: str, path: Path, faults: Callable[[Path], Iterable[str]]) -> None:
        handle, name = tempfile.mkstemp(_PART, f'{path.name}.', path.parent)
        part = Path(name)
        try:
            self.fetch(file, part)
            for fault in faults(part):
                raise StoreError(f'{self.where(file)} did not arrive whole, or is damaged there: '
                                 f'{fault.replace(str(part), self.where(file))}')
            os.fsync(handle)
            os.replace(part, path)
        finally:
            os.close(handle)
            part.unlink(missing_ok=True)
        sync_folder(path.parent)

    def _make_room(self, newest: Path | None = None) -> None:
        if self.limit is None:
            return
        kept = []
        for path in (self.cache / 'stores').glob('*/view-*/shard-*.logits'):
            with suppress(FileNotFoundError):
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in kept) - self.limit
        for _, size, path in sorted(kept):
            if excess <= 0:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                excess -= size

    @contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        """Waits for other processes that download the same file; False where the file system cannot tell."""
        locks = self.cache / 'locks'
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / f'{zlib.crc32(name.encode()) % _SLOTS:02d}', 'ab') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                alone = True
            except OSError:
                alone = False
            yield alone

    @contextmanager
    def _caching(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:  # at the URL
            raise
        except OSError as error:
            change = 'name another folder with cache= or MMTINYVIT_CACHE'
            if error.errno in FULL:
                raise StoreError(f'The disk of the cache {self.cache} is full ({error.strerror}): free some room, give '
                                 f'the cache a size with MMTINYVIT_CACHE_BYTES, or {change}.') from error
            raise StoreError(f'The cache {self.cache} cannot be used ({error.strerror or error}): {change}.') from error
