"""Where the files of a store are: in a folder of this machine, or at a URL that is reached through fsspec."""
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from .connection import connect, explain, short_reason
from .errors import StoreError
from .files import (
    FULL,
    list_shards,
    make_folder,
    make_own_folder,
    open_file,
    reading,
    translated,
    write_atomically,
)
from .layout import MANIFEST_NAME, Unit, parse_shard, parse_view
from .locks import StoreLock
from .manifest import MAX_BYTES, Manifest, parse_manifest, read_manifest
from .shard import Shard

__all__ = ['LocalFolder', 'RemoteFolder', 'is_url', 'open_folder', 'refuse_url']

_CHUNK = 2**20
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*(::|://)')
_WAS_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')  # after pathlib has taken one of the slashes


def is_url(path: str | Path) -> bool:
    """Whether ``path`` names a place by a URL, such as ``'s3://bucket/store'``."""
    return isinstance(path, str) and bool(_URL.match(path))


def refuse_url(path: str | Path) -> None:
    """Raises :class:`StoreError` if ``path`` is a URL: there are no locks to write under."""
    if is_url(path) or _WAS_URL.match(str(path)):
        raise StoreError(f'A store is written in a folder of this machine, where processes can lock it, and not at '
                         f'{path}: write it to a folder, then run "python tools/logit_store.py copy FOLDER {path}".')


def open_folder(path: str | Path) -> 'LocalFolder | RemoteFolder':
    """The files of the store at a folder or URL, which need not exist yet."""
    return RemoteFolder(path) if is_url(path) else LocalFolder(path)


class LocalFolder:
    """The files of a store, where they are. Files are named by their paths in the store.

    Args:
        path: The store's folder.

    Attributes:
        root: The store's folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)

    def __str__(self) -> str:
        return str(self.root)

    def where(self, file: str) -> Path | str:
        """What to call one of the files, such as ``'view-0000/shard-00000.logits'``."""
        return self.root / file

    def manifest(self) -> Manifest:
        """The store's manifest, checked as by :func:`~mmtinyvit.store.read_manifest`."""
        return read_manifest(self.root)

    def samples(self, manifest: Manifest) -> Path:
        """A folder that has both samples files."""
        return self.root

    def shards(self, manifest: Manifest) -> dict[int, set[int]]:
        """The shards of each view, in order; those that a store of this manifest has not are left out."""
        expected = set(range(manifest.shards_per_view))
        with reading(self.root):
            views = {parse_view(path.name) for path in self.root.iterdir() if path.is_dir()} - {None}
            return {view: list_shards(self.root, view) & expected for view in sorted(views)}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file of the store's folder and its views; other folders are only named."""
        found = {}
        with reading(self.root):
            for entry in os.scandir(self.root) if self.root.is_dir() else ():
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
                elif parse_view(entry.name) is None or not entry.is_dir():
                    found[f'{entry.name}/'] = 0
                else:
                    found |= {f'{entry.name}/{inner.name}': inner.stat().st_size for inner in os.scandir(entry)
                              if inner.is_file()}
        return found

    def head(self, file: str, size: int) -> bytes:
        """The first bytes of a file."""
        with open_file(self.root / file) as opened:
            return opened.read(size)

    @contextmanager
    def borrow(self, file: str) -> Iterator[Path]:
        """A folder that has ``file``, if the store has it, for the time of the block."""
        yield self.root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the store, so that no job writes to it meanwhile.

        Raises:
            StoreError: One does, or the folder cannot be written to.
        """
        with translated(self.root):
            make_folder(self.root)
        with closing(StoreLock(self.root)) as lock:
            lock.claim_job()
            yield

    def put(self, file: str, source: Path) -> None:
        """Copies ``source`` here as ``file``, in place of what is there.

        Raises:
            StoreError: The disk is full, or writing is not possible or not allowed.
        """
        target = self.root / file
        with open_file(source) as opened, translated(self.root, os.fstat(opened.fileno()).st_size):
            if target.parent != self.root:
                make_own_folder(target.parent)
            write_atomically(target, iter(lambda: opened.read(_CHUNK), b''))

    def open_shard(self, manifest: Manifest, unit: Unit) -> Shard:
        """One shard; ``OSError`` if there is none."""
        return Shard(self.root / unit.file, manifest, unit)


class RemoteFolder:
    """The files of a store at a URL; its methods are those of :class:`LocalFolder`.

    Each process opens a connection of its own, at its first request: fsspec's event loop does not survive a fork.
    Requests that fail are repeated by fsspec and the library behind it, as those are configured; there is no second
    layer of retries here.

    Args:
        url: The store's URL; fsspec knows the protocols and finds credentials, for S3 in the environment, in
            ``~/.aws``, or from the machine's role.

    Attributes:
        root: The URL.
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip('/')

    def __str__(self) -> str:
        return self.root

    def where(self, file: str) -> Path | str:
        return f'{self.root}/{file}'

    # ---------------------------------------------------------------- looking
    def manifest(self) -> Manifest:
        try:
            with self._talking(f'read {self.root}') as (system, path):
                data = system.cat_file(f'{path}/{MANIFEST_NAME}', start=0, end=MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise StoreError(f'There is no store at {self.root} (it has no {MANIFEST_NAME}; {short_reason(error)}): '
                             'check the URL, or put a store there with "python tools/logit_store.py copy".') from error
        return parse_manifest(data, self.where(MANIFEST_NAME))

    def shards(self, manifest: Manifest) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for file in self.sizes():
            folder, _, name = file.partition('/')
            view, shard = parse_view(folder), parse_shard(name)
            if view is not None:
                found.setdefault(view, set())
                if shard is not None and shard < manifest.shards_per_view:
                    found[view].add(shard)
        return dict(sorted(found.items()))

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below the URL; one recursive listing."""
        try:
            with self._talking(f'list {self.root}') as (system, path):
                system.invalidate_cache()
                found = system.find(path, detail=True)
        except FileNotFoundError:
            return {}
        return {name[len(path) + 1:]: int(info['size'] or 0) for name, info in found.items()}

    def head(self, file: str, size: int) -> bytes:
        with self._talking(f'read {self.where(file)}') as (system, path):
            return system.cat_file(f'{path}/{file}', start=0, end=size)

    # ---------------------------------------------------------------- moving files
    def fetch(self, file: str, target: Path) -> None:
        """Downloads a file to ``target``, which exists, in one request.

        Raises:
            FileNotFoundError: There is none.
            OSError: This machine's disk is full.
            StoreError: The other side failed; says how.
        """
        with self._talking(f'read {self.where(file)}') as (system, path):
            system.get_file(f'{path}/{file}', str(target))

    @contextmanager
    def borrow(self, file: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix='mmtinyvit-') as folder:
            target = Path(folder, file)
            try:
                target.parent.mkdir(exist_ok=True)
                target.touch()
                self.fetch(file, target)
            except FileNotFoundError:
                target.unlink()
            except OSError as error:
                raise StoreError(f'{folder} cannot take {self.where(file)} ({error.strerror or error}): free some '
                                 'room, or name another folder with TMPDIR.') from error
            yield Path(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield  # there are no locks at a URL, and what is put there is the same whoever puts it

    def put(self, file: str, source: Path) -> None:
        try:
            with self._talking(f'write {self.where(file)}') as (system, path):
                system.put_file(str(source), f'{path}/{file}')
        except FileNotFoundError as error:
            raise StoreError(f'There is no place for {self.where(file)} ({short_reason(error)}): make the bucket, or '
                             'check the URL.') from error

    # ---------------------------------------------------------------- talking to fsspec
    @contextmanager
    def _talking(self, verb: str) -> Iterator[tuple[Any, str]]:
        """The file system, and the store's path in it; what goes wrong on the way becomes one sentence.

        What is not there (``FileNotFoundError``) and a full disk here (``OSError``) are the caller's to explain.
        """
        try:
            yield connect(self.root)
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:  # each protocol's library has its own exceptions
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise StoreError(explain(error, verb)) from error
