"""Reading a store: memory-mapped, O(1) per record, nothing held per sample."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .codecs import make_codec
from .errors import StoreError
from .key_table import KeyTable
from .layout import check_view, list_shards, list_views, shard_count, shard_path, unit_of, view_path
from .logits import TeacherLogits
from .manifest import Manifest, read_manifest
from .shard import BLOCK_RECORDS, Shard

__all__ = ['Coverage', 'LogitStore']


class Coverage(NamedTuple):
    """How much of a view is there."""
    present: int
    expected: int


class LogitStore:
    """A store of teacher logits, open for reading.

    Opening reads the manifest and maps the samples files; shards are mapped when they are first read. An open store
    can be pickled: a DataLoader worker opens it again, for nothing but the manifest's few kilobytes.

    Args:
        path: The store's folder.
        max_open_shards: Shards kept mapped; the one opened first is dropped first. Each costs one file descriptor.

    Attributes:
        manifest: The complete :class:`Manifest`, fingerprints included.
        num_samples: Samples per view.
        num_classes: The teacher's classes, C.
        topk: Stored classes per record, K.
        codec: The codec's name.
        base_seed: The seed that names the views.
        mixing: Whether records name the sample that each was mixed with.
        record_bytes: Bytes per record on disk, without checksums.

    Raises:
        StoreError: There is no store at ``path``, or it is damaged or of a newer format.
    """

    def __init__(self, path: str | Path, max_open_shards: int = 256) -> None:
        self.root = Path(path)
        self.manifest: Manifest = read_manifest(self.root)
        meta = self.manifest
        self.num_samples: int = meta.num_samples
        self.num_classes, self.topk, self.codec = meta.num_classes, meta.topk, meta.codec
        self.base_seed, self.mixing = meta.base_seed, meta.mixing
        self._codec = make_codec(meta.codec, meta.topk, meta.num_classes)
        self.record_bytes: int = self._codec.record_bytes + 8 * meta.mixing
        self._keys = KeyTable(self.root, meta.num_samples, meta.samples.key_salt)
        self._store_id = meta.store_id
        self._per_shard = meta.samples_per_shard
        self._max_open = max_open_shards
        self._open: dict[tuple[int, int], Shard] = {}

    def __reduce__(self) -> tuple:
        return LogitStore, (self.root.absolute(), self._max_open)

    def __len__(self) -> int:
        return self.num_samples

    def __repr__(self) -> str:
        return (f'LogitStore({str(self.root)!r}: {self.num_samples} samples, top {self.topk} of {self.num_classes}, '
                f'{self.codec}, {self.record_bytes} bytes)')

    # ---------------------------------------------------------------- what is there
    @property
    def views(self) -> list[int]:
        """The views that are present, complete or not, in order; looked up anew each time, without a look at shards."""
        return list_views(self.root)

    def coverage(self) -> dict[int, Coverage]:
        """Shards present and expected, by view; lists every folder."""
        expected = shard_count(self.num_samples, self._per_shard)
        return {view: Coverage(len([shard for shard in list_shards(self.root, view) if shard < expected]), expected)
                for view in self.views}

    def positions(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` int64: where the samples ``keys`` stand in the store.

        Raises:
            StoreError: A key is not in the store.
        """
        positions = self._keys.find(keys)
        if len(positions) and positions.min() < 0:
            key = keys[int(positions.argmin())]
            raise StoreError(f'The store {self.root} has no sample {key!r}; its {self.num_samples} samples are named '
                             f'like {self._keys.key(0)!r}, relative to the data root.')
        return positions

    def key(self, position: int) -> str:
        """The key of the sample at ``position``."""
        return self._keys.key(int(position))

    def key_hash(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` uint64: how ``partner_hash`` names the samples ``keys``."""
        return self._keys.hash(keys)

    def canaries(self, view: int, shard: int) -> dict[int, bytes]:
        """Digests (16 bytes) of the pixels of a few replayed samples of one shard, by position in the store."""
        return self._shard(check_view(view), shard).canaries()

    # ---------------------------------------------------------------- reading
    def read(self, view: int, keys: Sequence[str]) -> TeacherLogits:
        """What the teacher said about the samples ``keys`` in ``view``.

        Returns:
            Arrays in the order of ``keys``; see :class:`TeacherLogits`.

        Raises:
            StoreError: A key, the view or a shard is missing, or a record is damaged.
        """
        return self._read(check_view(view), self.positions(keys))

    def read_positions(self, view: int, positions: Sequence[int] | np.ndarray) -> TeacherLogits:
        """As :meth:`read`, for samples given by their positions in the store."""
        positions = np.asarray(positions, dtype=np.int64).reshape(-1)
        if len(positions) and not (0 <= positions.min() and positions.max() < self.num_samples):
            raise StoreError(f'The store {self.root} has samples 0 to {self.num_samples - 1}, not '
                             f'{positions.min()} to {positions.max()}.')
        return self._read(check_view(view), positions)

    def _read(self, view: int, positions: np.ndarray) -> TeacherLogits:
        size, per_shard, shards = self.record_bytes, self._per_shard, self._open
        records, last, block = [], None, b''
        for position in positions.tolist():
            shard, local = divmod(position, per_shard)
            number, slot = divmod(local, BLOCK_RECORDS)
            if last != (shard, number):  # neighbours share the work of checking
                block = (shards.get((view, shard)) or self._shard(view, shard, position)).block(number)
                last = shard, number
            records.append(block[slot * size:slot * size + size])
        rows = np.frombuffer(b''.join(records), np.uint8).reshape(-1, size)
        partner = None
        if self.mixing:
            partner = np.ascontiguousarray(rows[:, -8:]).view('<u8')[:, 0]
            rows = rows[:, :-8]
        try:
            return TeacherLogits(*self._codec.decode(rows), partner)
        except ValueError as error:
            raise StoreError(f'View {view} of the store {self.root} has records that no mmtinyvit wrote ({error}): '
                             'save the view again.') from error

    def _shard(self, view: int, shard: int, position: int | None = None) -> Shard:
        """The mapped shard; ``position`` is only for the error."""
        found = self._open.get((view, shard))
        if found is None:
            expected = shard_count(self.num_samples, self._per_shard)
            if not 0 <= shard < expected:
                raise StoreError(f'The store {self.root} has shards 0 to {expected - 1} in each view, not {shard}.')
            path = shard_path(self.root, view, shard)
            try:
                found = Shard(path, unit_of(view, shard, self.num_samples, self._per_shard), self._store_id,
                              self.record_bytes)
            except OSError as error:
                raise StoreError(self._absence(view, shard, position, error)) from error
            self._open[view, shard] = found
            if len(self._open) > self._max_open:
                self._open.pop(next(iter(self._open)), None)  # unmapped once nobody reads it
        return found

    def _absence(self, view: int, shard: int, position: int | None, error: OSError) -> str:
        sample = '' if position is None else f' (asked for sample {self._keys.key(position)!r})'
        if not isinstance(error, FileNotFoundError):
            return f'{shard_path(self.root, view, shard)} cannot be opened{sample}: {error.strerror}.'
        if view_path(self.root, view).is_dir():
            return (f'View {view} of the store {self.root} lacks shard {shard}{sample}: it is not completely saved or '
                    'copied; run the saving command again, it does only what is missing.')
        views = self.views
        have = 'no views' if not views else f'the views {_ranges(views)}'
        return (f'The store {self.root} has no view {view}{sample}; it has {have}: save that view, or train with the '
                'views that are there.')

    def verify(self) -> Iterator:
        """Checks everything, file by file; see :func:`verify_store`."""
        from .verify import verify_store
        return verify_store(self.root)


def _ranges(numbers: list[int]) -> str:
    """``'0-3, 7'``."""
    parts, start = [], numbers[0]
    for here, following in zip(numbers, [*numbers[1:], None], strict=True):
        if following != here + 1:
            parts.append(f'{start}-{here}' if start < here else str(here))
            start = following
    return ', '.join(parts)
