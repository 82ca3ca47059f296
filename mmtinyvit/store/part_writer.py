"""Writing shards without a lock: a part of a store, in a folder or at a URL."""
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import StoreError
from .files import refuse_foreign
from .folders import open_folder
from .keys import text_sha256, write_sample_files
from .layout import MANIFEST_NAME, Unit, check_view
from .manifest import Manifest, dump_manifest
from .packing import pack_unit
from .record import Record
from .shard import Shard

__all__ = ['PartWriter']


class PartWriter:
    """Creates a store or goes on with one, beside any others that do, without a lock.

    Who writes which shard is settled elsewhere: by the number of a job, or by a scheduler. The bytes of a shard do not
    depend on who computes it, and each is put whole, so it is harmless if two do. The manifest is put once: the first
    wins, and whoever comes with another one is refused. It comes before the samples files, which follow from it, so
    that no stranger's files can end up beside it; a part that finds it without them puts them.

    Args:
        place: A folder, or a URL of a file system that puts a file whole or not at all, as object stores do.
        manifest: What the store is to be; as for :class:`~mmtinyvit.store.LogitWriter`.
        keys: The sample keys in store order, or a text file with one per line.

    Attributes:
        root: The folder or URL.
        manifest: The store's complete manifest.

    Raises:
        StoreError: The store at ``place`` is another one (each field that differs is named with both values), there is
            something else, or it cannot be written to.
    """

    def __init__(self, place: str | Path, manifest: Manifest | Mapping[str, Any],
                 keys: Sequence[str] | str | Path) -> None:
        self._folder = open_folder(place)
        self.root = self._folder.root
        self._folder.refuse_torn_writes()
        request = Manifest.parse(manifest if isinstance(manifest, Mapping) else asdict(manifest), 'The requested store')
        there = self._folder.sizes()
        if MANIFEST_NAME not in there:
            refuse_foreign(self._folder, there)
            self._create(request, keys)
        self.manifest = self._agree(request, keys)
        if not self.manifest.sample_files.keys() <= there.keys():
            self._put_samples(keys)

    @classmethod
    def attach(cls, place: str | Path, manifest: Manifest) -> 'PartWriter':
        """A writer of a store that another process has opened just now, and whose complete manifest it has sent."""
        writer = cls.__new__(cls)
        writer._folder = open_folder(place)
        writer.root, writer.manifest = writer._folder.root, manifest
        return writer

    def __enter__(self) -> 'PartWriter':
        return self

    def __exit__(self, *exc_info: object) -> None:
        """There is nothing to give back."""

    # ---------------------------------------------------------------- what is missing
    def missing(self, views: Iterable[int]) -> list[Unit]:
        """The units that are not there, view by view, the reference view first, if there is one; one listing.

        Raises:
            StoreError: The views are to be coded relative to one that is neither wanted nor complete.
        """
        meta = self.manifest
        there, every = self._folder.shards(meta), range(meta.shards_per_view)
        views = sorted(map(check_view, views), key=lambda view: (view != meta.reference.view, view))
        meta.reference.refuse_without(views, f'The store {self.root}',
                                      lambda view: len(there.get(view, ())) == len(every))
        return [meta.unit(view, shard) for view in views for shard in every if shard not in there.get(view, ())]

    def reference(self, unit: Unit) -> Shard | None:
        """The shard that ``unit`` is coded relative to, None if it is coded by itself.

        Raises:
            StoreError: It is not there yet.
        """
        needed = self.manifest.reference.of(unit)
        if needed is None:
            return None
        with self._folder.borrow(needed.file) as root:
            try:
                return Shard(root / needed.file, self.manifest, needed)
            except FileNotFoundError:
                raise StoreError(f'{self._folder.where(unit.file)} is coded relative to '
                                 f'{self._folder.where(needed.file)}, which is not there: write that first.') from None

    # ---------------------------------------------------------------- writing
    def write_shard(self, unit: Unit, record: Record, canaries: Mapping[int, bytes] | None = None) -> None:
        """Checks, packs and puts one shard; arguments as for :meth:`LogitWriter.write_shard`.

        Raises:
            StoreError: The values are not what a softmax gives (the sample is named by its position), what the unit is
                coded relative to is not there, or the shard cannot be put.
        """
        self.put(unit, pack_unit(self.manifest, unit, record, canaries, self.reference(unit)))

    def put(self, unit: Unit, pieces: Sequence[bytes]) -> None:
        """Puts the bytes of a shard, whole, in place of what is there."""
        self._folder.put_bytes(unit.file, pieces)

    # ---------------------------------------------------------------- manifest and samples
    def _create(self, request: Manifest, keys: Sequence[str] | str | Path) -> None:
        with tempfile.TemporaryDirectory(prefix='mmtinyvit-') as scratch:
            samples, count = write_sample_files(Path(scratch), keys)
            if request.num_samples not in (None, count):
                raise StoreError(f'The requested store has num_samples={request.num_samples}, but {count} keys were '
                                 'given.')
            manifest = request.settle(count, samples)
            self._folder.put_new(MANIFEST_NAME, dump_manifest(manifest, self.root))

    def _agree(self, request: Manifest, keys: Sequence[str] | str | Path) -> Manifest:
        """The manifest that is there, if it is the requested one."""
        found = self._folder.manifest()
        lines = found.differences(request)
        text_sha, num_samples = text_sha256(keys)
        if (num_samples, text_sha) != (found.num_samples, found.samples.text_sha256):
            lines.append(f'sample keys: {found.num_samples}, SHA-256 {found.samples.text_sha256[:16]} != '
                         f'{num_samples}, SHA-256 {text_sha[:16]}')
        if lines:
            raise StoreError(f'The store {self.root} is another one than asked for (stored != asked): '
                             f'{"; ".join(lines)}. Write to a new place, or restore the settings that it was made '
                             'with.')
        return found

    def _put_samples(self, keys: Sequence[str] | str | Path) -> None:
        with tempfile.TemporaryDirectory(prefix='mmtinyvit-') as scratch:
            write_sample_files(Path(scratch), keys)
            for name in self.manifest.sample_files:
                with open(Path(scratch, name), 'rb') as file:
                    self._folder.put_bytes(name, [file.read()])
