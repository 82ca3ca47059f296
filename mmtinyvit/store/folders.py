"""Where the files of a store are: in a folder of this machine, or at a URL that is reached through fsspec."""
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from .errors import StoreError
from .files import (
    list_shards,
    make_folder,
    make_own_folder,
    open_file,
    reading,
    translated,
    write_atomically,
)
from .layout import Unit, parse_view
from .locks import StoreLock
from .manifest import Manifest, read_manifest
from .remote_folder import RemoteFolder
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
                         f'{path}: write it to a folder, then run "mmtinyvit store copy FOLDER {path}".')


def open_folder(path: str | Path) -> 'LocalFolder | RemoteFolder':
    """The files of the store at a folder or URL, which need not exist yet.

    Raises:
        StoreError: It is only a piece of a URL, and would be taken for a folder of that name.
    """
    if is_url(path) and is_url(path.rstrip('/')):
        return RemoteFolder(path)
    if is_url(path) or _WAS_URL.match(str(path)):
        raise StoreError(f'{path} is no whole URL: write it as text such as s3://bucket/store.')
    return LocalFolder(path)


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

    # ---------------------------------------------------------------- without a lock
    def refuse_torn_writes(self) -> None:
        """Raises :class:`StoreError` where others could see half a file that is being put."""

    def put_bytes(self, file: str, pieces: Sequence[bytes]) -> None:
        """Puts ``file`` here, whole, in place of what is there; any number of processes may do so at once.

        Raises:
            StoreError: As :meth:`put`.
        """
        with translated(self.root, sum(map(len, pieces))):
            if (self.root / file).parent != self.root:
                make_own_folder((self.root / file).parent)
            write_atomically(self.root / file, pieces, shared=True)

    def put_new(self, file: str, data: bytes) -> None:
        """As :meth:`put_bytes`, but of several that do so at once the first wins, and the others do nothing.

        This begins a store, so the folder is made; one that is deleted later stays so.
        """
        with translated(self.root, len(data)), suppress(FileExistsError):
            make_folder(self.root)
            write_atomically(self.root / file, [data], shared=True, new=True)

    def open_shard(self, manifest: Manifest, unit: Unit) -> Shard:
        """One shard; ``OSError`` if there is none."""
        return Shard(self.root / unit.file, manifest, unit)
