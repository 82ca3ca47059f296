"""Writing a store: any number of processes, no coordinator, each shard whole or absent."""
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StoreError
from .files import list_shards, make_folder, make_own_folder, reading, refuse_foreign, translated, write_atomically
from .folders import LocalFolder, refuse_url
from .keys import KeyTable, text_sha256, write_sample_files
from .layout import MANIFEST_NAME, TEXT_NAME, Unit, check_view
from .locks import StoreLock
from .manifest import Manifest, read_manifest, write_manifest
from .packing import pack_unit
from .record import Record
from .shard import Shard, pack_shard

__all__ = ['LogitWriter', 'agree']

_PATIENCE = 0.5  # seconds between two looks at units that other processes hold


class LogitWriter:
    """Creates a store, or goes on with one.

    A unit of work is one shard: claim it, run the teacher on its samples, write it. What is there already is never
    written again, and the bytes of a shard depend on nothing but its content, so a job that was killed is simply
    started again, with any number of processes::

        with LogitWriter(path, dict(topk=100, num_classes=21841, fingerprints=...), keys) as writer:
            for unit in writer.missing(range(90), rank, world_size):
                if writer.claim(unit):
                    writer.write_shard(unit, run_teacher(unit))  # a Record

    Args:
        path: The store's folder; it is created if it does not exist.
        manifest: What the store is to be; ``num_samples`` and ``samples_per_shard`` may be left out. If there is a
            store at ``path`` already, it must be the same.
        keys: The sample keys in store order, or a text file with one per line.
        exclusive: Refuse to work while another exclusive writer does, or any that joined. Rank 0 of a job sets it.
        join: Work beside any others that join, and beside a job that is at work already; keep exclusive ones out.

    Attributes:
        manifest: The store's complete manifest.

    Raises:
        StoreError: The store at ``path`` is another one (each field that differs is named with both values), another
            job writes it, a key or field is not usable, or the folder cannot be written to.
    """

    def __init__(self, path: str | Path, manifest: Manifest | Mapping[str, Any], keys: Sequence[str] | str | Path,
                 exclusive: bool = False, join: bool = False) -> None:
        refuse_url(path)
        self.root = Path(path)
        request = Manifest.parse(manifest if isinstance(manifest, Mapping) else asdict(manifest), 'The requested store')
        with translated(self.root):
            make_folder(self.root)
        if not (self.root / MANIFEST_NAME).exists():
            refuse_foreign(f'The folder {self.root}', LocalFolder(self.root).sizes())
        self._lock = StoreLock(self.root)
        try:
            if exclusive:
                self._lock.claim_job()
            elif join:
                self._lock.join_job()
            with self._lock.creating():
                exists = (self.root / MANIFEST_NAME).exists()
                self.manifest = agree(self.root, request, keys) if exists else _create(self.root, request, keys)
        except BaseException:
            self._lock.close()
            raise
        self._keys = KeyTable(self.root, self.manifest.num_samples, self.manifest.samples)
        self._written = 0

    def __enter__(self) -> 'LogitWriter':
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives back all claims; may be called twice."""
        if hasattr(self, '_lock'):
            self._lock.close()

    # ---------------------------------------------------------------- sharing out the work
    def missing(self, views: Iterable[int], rank: int = 0, world_size: int = 1, wait: bool = False) -> Iterator[Unit]:
        """Yields the units that are not written yet, view by view, the reference view first, if there is one.

        Within a view every process starts at a place of its own and goes round, so that processes meet rarely, views
        are finished in order, and whatever a dead process leaves is taken up by the others. Rounds are repeated for as
        long as this writer finishes something in them.

        Args:
            views: The views that are wanted.
            rank: This process among those that work together; a hint for where to start.
            world_size: How many there are.
            wait: Go on until nothing is missing: units that other processes hold are waited for, and yielded again, so
                that they are taken up when such a process dies. Meant for a loop that claims each unit it gets and has
                written it before it asks for the next.

        Raises:
            StoreError: The views are to be coded relative to one that is neither wanted nor complete.
        """
        total, reference = self.manifest.shards_per_view, self.manifest.reference
        views = sorted(map(check_view, views), key=lambda view: view != reference.view)
        reference.refuse_without(views, f'The store {self.root}',
                                 lambda view: len(list_shards(self.root, view)) >= total)
        start = total * (rank % world_size) // world_size
        while True:
            written, absent = self._written, False
            for view in views:
                present = list_shards(self.root, view)
                for shard in (*range(start, total), *range(start)):
                    if shard not in present:
                        absent = True
                        yield self.unit(view, shard)
            if not absent or (self._written == written and not wait):
                return
            if self._written == written:
                time.sleep(_PATIENCE)

    def unit(self, view: int, shard: int) -> Unit:
        """The unit of work behind one shard."""
        return self.manifest.unit(view, shard)

    def claim(self, unit: Unit) -> bool:
        """Tries to take ``unit`` for this writer.

        Returns:
            False if another process has it, it is written by now, or what it is to be coded relative to is not.

        Raises:
            StoreError: The store's folder was deleted or moved.
        """
        self._lock.refuse_deleted()
        if self._lock.has_unit(self._number(unit)):
            return True
        if self._waits_for(unit) or not self._lock.claim_unit(self._number(unit)):
            return False
        if (self.root / unit.file).exists():  # finished by another process since missing() looked
            self.release(unit)
            return False
        return True

    def release(self, unit: Unit) -> None:
        """Gives ``unit`` back unwritten."""
        self._lock.release_unit(self._number(unit))

    def _number(self, unit: Unit) -> int:
        meta = self.manifest
        if not 0 <= unit.shard < meta.shards_per_view or unit != meta.unit(check_view(unit.view), unit.shard):
            raise StoreError(f'{unit} is not a unit of the store {self.root}.')
        return meta.unit_number(unit)

    def _waits_for(self, unit: Unit) -> Path | None:
        """The shard that must be there before ``unit`` can be written, and is not."""
        needed = self.manifest.reference.of(unit)
        return self.root / needed.file if needed and not (self.root / needed.file).exists() else None

    # ---------------------------------------------------------------- writing
    def write_shard(self, unit: Unit, record: Record, canaries: Mapping[int, bytes] | None = None) -> None:
        """Checks, packs and publishes one shard, and gives the claim back.

        The file is written under a temporary name, flushed, renamed, and its folder flushed: after a crash or a power
        cut it is whole or absent.

        Args:
            unit: The unit; claimed here if it is not yet.
            record: Of the unit's samples, classes in any order. It has partners exactly if the manifest says
                ``mixing``: :func:`~mmtinyvit.store.key_hash` of each, without a salt, so that a reader needs no store
                to compare it.
            canaries: Digests of 16 bytes by position in the store.

        Raises:
            StoreError: The values are not what a softmax gives (the sample is named), another process has the unit, the
                disk is full, the store's folder was deleted, or that of the view is a link.
        """
        with self._claimed(unit):
            self._publish(unit, pack_unit(self.manifest, unit, record, canaries, self._reference(unit),
                                          self._keys.key))

    def write_packed(self, unit: Unit, records: np.ndarray, canaries: Mapping[int, bytes]) -> None:
        """As :meth:`write_shard`, with records ``(count, record_bytes)`` as ``LogitStore.read_packed`` gives them."""
        with self._claimed(unit):
            self._publish(unit, pack_shard(self.manifest, unit, records, canaries, self._reference(unit)))

    def put(self, unit: Unit, pieces: Sequence[bytes]) -> None:
        """As :meth:`write_shard`, with the bytes of the shard, as :func:`~mmtinyvit.store.pack_unit` makes them."""
        with self._claimed(unit):
            self._publish(unit, pieces)

    def write_file(self, unit: Unit, source: Path) -> None:
        """As :meth:`write_shard`, with a copy of a shard file, which another store of the same identity has."""
        with self._claimed(unit):
            with reading(source):
                fault, content = Shard(source, self.manifest, unit).fault(), source.read_bytes()
            if fault:
                raise StoreError(fault)
            self._publish(unit, [content])

    @contextmanager
    def _claimed(self, unit: Unit) -> Iterator[None]:
        if not self.claim(unit):
            needed = self._waits_for(unit)
            if needed:
                raise StoreError(f'{self.root / unit.file} is coded relative to {needed}, which is not there: write '
                                 'that first.')
            raise StoreError(f'{self.root / unit.file} is written already, or is being written by another process.')
        try:
            yield
        finally:
            self.release(unit)

    def _publish(self, unit: Unit, pieces: Sequence[bytes]) -> None:
        self._lock.refuse_deleted()
        with translated(self.root, sum(map(len, pieces))):
            make_own_folder((self.root / unit.file).parent)
            write_atomically(self.root / unit.file, pieces)
        self._written += 1

    def _reference(self, unit: Unit) -> Shard | None:
        """The shard that the records of ``unit`` are relative to, which is there once ``unit`` is claimed."""
        needed = self.manifest.reference.of(unit)
        with reading(self.root):
            return needed and Shard(self.root / needed.file, self.manifest, needed)


# ---------------------------------------------------------------- creation
def _create(root: Path, request: Manifest, keys: Sequence[str] | str | Path) -> Manifest:
    """Writes the samples files and, last, the manifest: a store exists from then on."""
    samples, count = write_sample_files(root, keys)
    if request.num_samples not in (None, count):
        raise StoreError(f'The requested store has num_samples={request.num_samples}, but {count} keys were given.')
    manifest = request.settle(count, samples)
    write_manifest(root, manifest)
    return manifest


def agree(root: Path, request: Manifest, keys: Sequence[str] | str | Path) -> Manifest:
    """The manifest of the store at ``root``, if that is the requested one."""
    found = read_manifest(root)
    lines = found.differences(request)
    text_sha, num_samples = text_sha256(keys)
    if num_samples != found.num_samples:
        lines.append(f'number of sample keys: {found.num_samples} != {num_samples}')
    elif text_sha != found.samples.text_sha256:
        lines.append(f'sample keys: {_first_difference(root, found, keys)}')
    if lines:
        raise StoreError(f'The store {root} is another one than asked for (stored != asked): {"; ".join(lines)}. Write '
                         'to a new folder, or restore the settings that it was made with.')
    return found


def _first_difference(root: Path, found: Manifest, keys: Sequence[str] | str | Path) -> str:
    table = KeyTable(root, found.num_samples, found.samples)
    keys = Path(keys).read_text('utf-8').split('\n') if isinstance(keys, str | Path) else keys
    for position, key in enumerate(keys):
        if position < len(table) and table.key(position) != key:
            return f'sample {position} is {table.key(position)!r} != {key!r}'
    return f'SHA-256 {found.samples.text_sha256[:16]} != that of the same keys, so {TEXT_NAME} is damaged'
