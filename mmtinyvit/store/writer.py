"""Writing a store: any number of processes, no coordinator, each shard whole or absent."""
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .codecs import make_codec
from .creation import agree, create, refuse_foreign
from .errors import StoreError
from .files import make_folder, translated, write_atomically
from .key_table import KeyTable
from .layout import MANIFEST_NAME, Unit, check_view, list_shards, shard_count, shard_path, unit_of, view_path
from .locks import StoreLock
from .logits import check_logits
from .manifest import Manifest
from .shard import CANARY_BYTES, pack_shard, shard_bytes

__all__ = ['LogitWriter']

_PATIENCE = 0.5  # seconds between two looks at units that other processes hold


class LogitWriter:
    """Creates a store, or goes on with one.

    A unit of work is one shard: claim it, run the teacher on its samples, write it. What is there already is never
    written again, and the bytes of a shard depend on nothing but its content, so a job that was killed is simply
    started again, with any number of processes::

        with LogitWriter(path, dict(topk=100, num_classes=21841, fingerprints=...), keys) as writer:
            for unit in writer.missing(range(90), rank, world_size):
                if writer.claim(unit):
                    writer.write_shard(unit, *run_teacher(unit))

    Args:
        path: The store's folder; it is created if it does not exist.
        manifest: What the store is to be; ``num_samples`` and ``samples_per_shard`` may be left out. If there is a
            store at ``path`` already, it must be the same.
        keys: The sample keys in store order, or a text file with one per line.
        exclusive: Refuse to work while another exclusive writer does. Rank 0 of a job sets it.

    Attributes:
        manifest: The store's complete manifest.

    Raises:
        StoreError: The store at ``path`` is another one (each field that differs is named with both values), another
            job writes it, a key or field is not usable, or the folder cannot be written to.
    """

    def __init__(self, path: str | Path, manifest: Manifest | Mapping[str, Any], keys: Sequence[str] | str | Path,
                 exclusive: bool = False) -> None:
        self.root = Path(path)
        asked = Manifest.parse(manifest if isinstance(manifest, Mapping) else vars(manifest), 'The requested store')
        with translated(self.root):
            make_folder(self.root)
        refuse_foreign(self.root)
        self._lock = StoreLock(self.root)
        try:
            if exclusive:
                self._lock.claim_job()
            with self._lock, translated(self.root):
                if (self.root / MANIFEST_NAME).exists():
                    self.manifest = agree(self.root, asked, keys)
                else:
                    self.manifest = create(self.root, asked, keys)
        except BaseException:
            self._lock.close()
            raise
        meta = self.manifest
        self._codec = make_codec(meta.codec, meta.topk, meta.num_classes)
        self._keys = KeyTable(self.root, meta.num_samples, meta.samples.key_salt)
        self._shards_per_view = shard_count(meta.num_samples, meta.samples_per_shard)
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

    def key_hash(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` uint64: how this store's records name the samples ``keys``."""
        return self._keys.hash(keys)

    # ---------------------------------------------------------------- sharing out the work
    def missing(self, views: Iterable[int], rank: int = 0, world_size: int = 1, wait: bool = False) -> Iterator[Unit]:
        """Yields the units that are not written yet, view by view.

        Within a view every process starts at a place of its own and goes round, so that processes meet rarely, views
        are finished in order, and whatever a dead process leaves is taken up by the others. Rounds are repeated for as
        long as this writer finishes something in them.

        Args:
            views: The views that are wanted.
            rank: This process among those that work together; a hint for where to start.
            world_size: How many there are.
            wait: Go on until nothing is missing, also waiting for units that other processes hold, in case they die.
                Meant for a loop that claims and writes what it gets.
        """
        views = [check_view(view) for view in views]
        start = self._shards_per_view * (rank % world_size) // world_size
        while True:
            written, absent = self._written, False
            for view in views:
                there = list_shards(self.root, view)
                for shard in (*range(start, self._shards_per_view), *range(start)):
                    if shard not in there:
                        absent = True
                        yield self.unit(view, shard)
            if not absent or (self._written == written and not wait):
                return
            if self._written == written:
                time.sleep(_PATIENCE)

    def unit(self, view: int, shard: int) -> Unit:
        """The unit of work behind one shard."""
        return unit_of(view, shard, self.manifest.num_samples, self.manifest.samples_per_shard)

    def claim(self, unit: Unit) -> bool:
        """Tries to take ``unit`` for this writer; False if another process has it, or it is written by now."""
        if self._lock.has_unit(self._number(unit)):
            return True
        if not self._lock.claim_unit(self._number(unit)):
            return False
        if self._path(unit).exists():  # finished by another process since missing() looked
            self.release(unit)
            return False
        return True

    def release(self, unit: Unit) -> None:
        """Gives ``unit`` back unwritten."""
        self._lock.release_unit(self._number(unit))

    def _number(self, unit: Unit) -> int:
        view = check_view(unit.view)
        if not 0 <= unit.shard < self._shards_per_view or unit != self.unit(view, unit.shard):
            raise StoreError(f'{unit} is not a unit of the store {self.root}.')
        return view * self._shards_per_view + unit.shard

    def _path(self, unit: Unit) -> Path:
        return shard_path(self.root, unit.view, unit.shard)

    # ---------------------------------------------------------------- writing
    def write_shard(self, unit: Unit, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
                    partner_hash: np.ndarray | None = None, canaries: Mapping[int, bytes] | None = None) -> None:
        """Checks, packs and publishes one shard, and gives the claim back.

        The file is written under a temporary name, flushed, renamed, and its folder flushed: after a crash or a power
        cut it is whole or absent.

        Args:
            unit: The unit; claimed here if it is not yet.
            index: ``(count, K)`` whole numbers, the classes of the top K in any order.
            log_prob: ``(count, K)`` float, natural logarithms.
            tail_mass: ``(count,)`` float, the probability of all other classes together.
            partner_hash: ``(count,)`` uint64, :func:`~mmtinyvit.store.key_hash` of each sample's partner, without a
                salt, so that a reader needs no store to compare it; exactly if the manifest says ``mixing``.
            canaries: Digests of 16 bytes by position in the store.

        Raises:
            StoreError: The values are not what a softmax gives (the sample is named), another process has the unit, or
                the disk is full.
        """
        if not self.claim(unit):
            raise StoreError(f'{self._path(unit)} is written already, or is being written by another process.')
        try:
            records = self._records(unit, index, log_prob, tail_mass, partner_hash)
            canaries = self._canaries(unit, canaries or {})
            size = shard_bytes(unit.count, records.shape[1], len(canaries))
            with translated(self.root, size):
                make_folder(view_path(self.root, unit.view))
                write_atomically(self._path(unit), pack_shard(unit, self.manifest.store_id, records, canaries))
            self._written += 1
        finally:
            self.release(unit)

    def _records(self, unit: Unit, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
                 partner_hash: np.ndarray | None) -> np.ndarray:
        """``(count, record_bytes)`` uint8."""
        meta = self.manifest

        def name(i: int) -> str:
            return f'sample {self._keys.key(unit.first + i)!r} in view {unit.view}'

        arrays = check_logits(index, log_prob, tail_mass, unit.count, meta.topk, meta.num_classes, name)
        records = self._codec.encode(*arrays)
        if meta.mixing != (partner_hash is not None):
            raise StoreError(f'The store {self.root} was created with mixing={meta.mixing}, so its records '
                             f'{"need" if meta.mixing else "cannot have"} the hash of a partner.')
        if partner_hash is None:
            return records
        partner_hash = np.asarray(partner_hash)
        if partner_hash.shape != (unit.count,) or partner_hash.dtype != np.uint64:
            raise StoreError(f'partner_hash must be uint64 of shape ({unit.count},), not {partner_hash.dtype} of '
                             f'shape {partner_hash.shape}.')
        return np.concatenate([records, partner_hash.astype('<u8')[:, None].view(np.uint8)], axis=1)

    def _canaries(self, unit: Unit, canaries: Mapping[int, bytes]) -> dict[int, bytes]:
        canaries = {int(position): bytes(digest) for position, digest in canaries.items()}
        for position, digest in canaries.items():
            if not unit.first <= position < unit.first + unit.count or len(digest) != CANARY_BYTES:
                raise StoreError(f'A canary must be {CANARY_BYTES} bytes for a position from {unit.first} to '
                                 f'{unit.first + unit.count - 1}, not {len(digest)} bytes for {position}.')
        return canaries
