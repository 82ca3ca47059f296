"""A store in a folder of this machine."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import make_folder, translated, write_atomically
from .layout import Unit, list_shards, list_views, parse_view, shard_path
from .locks import StoreLock
from .manifest import Manifest, read_manifest
from .shard import Shard

__all__ = ['LocalFolder']

_CHUNK = 2**20


class LocalFolder:
    """The files of a store, where they are.

    Args:
        path: The store's folder.

    Attributes:
        root: The store's folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)

    def __str__(self) -> str:
        return str(self.root)

    def where(self, file: str) -> Path:
        """What to call one of the files, such as ``'view-0000/shard-00000.logits'``."""
        return self.root / file

    def manifest(self) -> Manifest:
        """The store's manifest, checked."""
        return read_manifest(self.root)

    def samples(self, manifest: Manifest) -> Path:
        """A folder that has both samples files."""
        return self.root

    def views(self) -> list[int]:
        """The views that have a folder, in order."""
        return list_views(self.root)

    def shards(self, manifest: Manifest) -> dict[int, set[int]]:
        """The shards of each view, in order; those that a store of this manifest has not are left out."""
        expected = set(range(manifest.shards_per_view))
        return {view: list_shards(self.root, view) & expected for view in self.views()}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file of the folder and of its views; other folders are only named."""
        found = {}
        for entry in os.scandir(self.root) if self.root.is_dir() else ():
            if entry.is_file():
                found[entry.name] = entry.stat().st_size
            elif parse_view(entry.name) is None:
                found[f'{entry.name}/'] = 0
            else:
                found |= {f'{entry.name}/{inner.name}': inner.stat().st_size for inner in os.scandir(entry)
                          if inner.is_file()}
        return found

    def head(self, file: str, size: int) -> bytes:
        """The first bytes of a file."""
        with open(self.root / file, 'rb') as opened:
            return opened.read(size)

    @contextmanager
    def borrow(self, *files: str) -> Iterator[Path]:
        """A folder that has ``files``, by their paths in the store, for the time of the block: the store's own."""
        yield self.root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the store, so that no job writes to it meanwhile.

        Raises:
            StoreError: One does, or the folder cannot be written to.
        """
        with translated(self.root):
            make_folder(self.root)
        lock = StoreLock(self.root)
        try:
            lock.claim_job()
            yield
        finally:
            lock.close()

    def put(self, file: str, source: Path) -> None:
        """Copies ``source`` here as ``file``, whole or not at all.

        Raises:
            StoreError: The disk is full, or the folder cannot be written to.
        """
        target = self.root / file
        with open(source, 'rb') as opened, translated(self.root, os.fstat(opened.fileno()).st_size):
            make_folder(target.parent)
            write_atomically(target, iter(lambda: opened.read(_CHUNK), b''))

    def open_shard(self, manifest: Manifest, unit: Unit) -> Shard:
        """One shard; ``OSError`` if there is none."""
        return Shard(shard_path(self.root, unit.view, unit.shard), manifest, unit)
