"""A remote store, and a folder of this machine that keeps what was needed of it so far."""
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from .admin.verify import file_faults, shard_faults
from .cache import alone, cache_folder, cache_limit, caching, keep_file
from .errors import StoreError
from .folders import RemoteFolder
from .layout import MANIFEST_NAME, Unit
from .manifest import Manifest, write_manifest
from .shard import Shard

__all__ = ['CachedFolder']

_TRIES = 8


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
        with caching(self.cache):
            kept.mkdir(parents=True, exist_ok=True)
            with alone(self.cache, str(kept)):
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

        def fetch(part: Path) -> None:
            self.fetch(file, part)
            for fault in faults(part):
                raise StoreError(f'{self.where(file)} did not arrive whole, or is damaged there: '
                                 f'{fault.replace(str(part), self.where(file))}')

        path = self._kept / file
        with caching(self.cache):
            if path.exists():
                with suppress(OSError):  # somebody else's cache may be read as well
                    os.utime(path)  # used just now
            elif keep_file(self.cache, path, fetch):
                self._make_room(path)
        return path

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
