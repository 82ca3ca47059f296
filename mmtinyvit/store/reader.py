"""Reading a store: memory-mapped, O(1) per record, nothing held per sample."""
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import other_spelling
from .admin.verify import Finding, verify_store
from .cached_folder import CachedFolder
from .errors import MissingShard, StoreError
from .files import way_out
from .folders import LocalFolder, is_url
from .keys import KeyTable
from .layout import check_view, spell_numbers
from .manifest import Manifest
from .record import Record, check_record
from .shard import Shard

__all__ = ['Coverage', 'LogitStore']

_DECODED = 4096  # records at a time, where all are


class Coverage(NamedTuple):
    """How much of a view is there."""
    present: int
    expected: int

    @property
    def complete(self) -> bool:
        """Whether all shards are there."""
        return self.present == self.expected


class LogitStore:
    """A store of teacher logits, open for reading.

    Opening reads the manifest and maps the samples files; shards are mapped when they are first read. An open store
    can be pickled: a DataLoader worker opens it again, for nothing but the manifest's few kilobytes.

    A store at a URL (``s3://bucket/store``, and whatever else fsspec knows) is read through a cache here: the
    manifest is fetched at opening, the samples files when the first key is asked for, a shard when it is first read.

    Args:
        path: The store's folder, or its URL.
        max_open_shards: Shards kept mapped; the one opened first is dropped first. Each costs one file descriptor.
        cache: Of a store at a URL, the folder of the cache; by default ``$MMTINYVIT_CACHE`` or
            ``~/.cache/mmtinyvit``.
        cache_bytes: How much the shards in the cache may take, those used least recently go first; by default
            ``$MMTINYVIT_CACHE_BYTES``, or no limit.

    Attributes:
        root: The store's folder, or its URL.
        manifest: The complete :class:`Manifest`, fingerprints included.
        num_samples, num_classes, topk, codec, base_seed, mixing, reference_view: Fields of the manifest.
        record_bytes: Bytes per record, without checksums: on disk, or at most on disk if the codec cuts off zeros.

    Raises:
        StoreError: There is no store at ``path``, it is damaged or of a newer format, or it cannot be reached.
    """

    def __init__(self, path: str | Path, max_open_shards: int = 512, cache: str | Path | None = None,
                 cache_bytes: int | None = None) -> None:
        self._folder = CachedFolder(path, cache, cache_bytes) if is_url(path) else LocalFolder(path)
        self._caching = cache, cache_bytes
        self.root: Path | str = self._folder.root
        self.manifest: Manifest = self._folder.manifest()
        meta = self.manifest
        self.num_samples: int = meta.num_samples
        self.num_classes, self.topk, self.codec = meta.num_classes, meta.topk, meta.codec
        self.base_seed, self.mixing, self.reference_view = meta.base_seed, meta.mixing, meta.reference_view
        self.record_bytes: int = meta.record_bytes
        self._codec = meta.record_codec
        if isinstance(self._folder, LocalFolder):
            _ = self._keys  # damage shows at once
        self._max_open = max_open_shards
        self._open: dict[tuple[int, int], Shard] = {}

    def __reduce__(self) -> tuple:
        path = self.root if is_url(self.root) else self.root.absolute()
        return LogitStore, (path, self._max_open, *self._caching)

    def __len__(self) -> int:
        return self.num_samples

    def __repr__(self) -> str:
        return (f'LogitStore({str(self.root)!r}: {self.num_samples} samples, top {self.topk} of {self.num_classes}, '
                f'{self.codec}, {self.record_bytes} bytes)')

    # ---------------------------------------------------------------- what is there
    @cached_property
    def _keys(self) -> KeyTable:
        meta = self.manifest
        return KeyTable(self._folder.samples(meta), meta.num_samples, meta.samples)

    @property
    def views(self) -> list[int]:
        """The views that are present, complete or not, in order; looked up anew each time, in every folder."""
        return list(self.shards())

    def coverage(self) -> dict[int, Coverage]:
        """Shards present and expected, by view; lists every folder."""
        expected = self.manifest.shards_per_view
        return {view: Coverage(len(shards), expected) for view, shards in self.shards().items()}

    def complete_views(self) -> list[int]:
        """The views with all of their shards, in order; lists every folder."""
        return [view for view, coverage in self.coverage().items() if coverage.complete]

    def shards(self) -> dict[int, set[int]]:
        """The shards that are there, by view; lists every folder."""
        return self._folder.shards(self.manifest)

    def num_bytes(self) -> int:
        """Bytes of all files; lists every folder."""
        return sum(self._folder.sizes().values())

    @property
    def bytes_per_view(self) -> float:
        """Bytes per view of a sample: those of a record, or, where lengths vary, the mean of what is on disk.

        The mean includes lengths, checksums and canaries, and is looked up anew each time, in every folder.
        """
        if not self._codec.variable:
            return float(self.record_bytes)
        units, sizes = self.manifest.units(self.shards()), self._folder.sizes()
        size = sum(sizes[unit.file] for unit in units)
        return round(size / max(sum(unit.count for unit in units), 1), 1)

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` int64: where the samples ``keys`` stand in the store, -1 for those that it has not."""
        return np.array(self._keys.find(keys), np.int64)

    def positions(self, keys: Sequence[str]) -> np.ndarray:
        """As :meth:`find`. Raises :class:`StoreError` if a key is not in the store."""
        positions = self._keys.find(keys)
        if -1 in positions:
            key = keys[positions.index(-1)]
            spelt = other_spelling(key, lambda other: self._keys.find([other]) != [-1])
            raise StoreError(f'The store {self.root} has no sample {key!r}{spelt}; its {self.num_samples} samples are '
                             f'named like {self._keys.key(0)!r}, relative to the data root.')
        return np.array(positions, np.int64)

    def key(self, position: int) -> str:
        """The key of the sample at ``position``."""
        return self._keys.key(int(position))

    def canaries(self, view: int, shard: int) -> dict[int, bytes]:
        """Digests (16 bytes) of the pixels of a few replayed samples of one shard, by position in the store."""
        return self._shard(check_view(view), shard).canaries()

    # ---------------------------------------------------------------- reading
    def prepare(self) -> None:
        """Does what the first reading would wait for. Processes that are forked later share it."""
        self._codec.prepare()

    def read(self, view: int, keys: Sequence[str], topk: int | None = None) -> Record:
        """What the teacher said about the samples ``keys`` in ``view``.

        Args:
            view, keys: Whose records.
            topk: Read only so many of the stored classes, the most probable; the others join the tail.

        Returns:
            Arrays in the order of ``keys``; see :class:`Record`.

        Raises:
            MissingShard: The view or a shard is not there.
            StoreError: A key is not in the store, a record is damaged, or the store has fewer classes than ``topk``.
        """
        return self.read_positions(view, self.positions(keys), topk)

    def read_positions(self, view: int, positions: Sequence[int] | np.ndarray, topk: int | None = None) -> Record:
        """As :meth:`read`, for samples given by their positions in the store."""
        self.require_classes(topk)
        packed, reference = self._read(view, positions)
        rows, partner = self._codec.part(packed, self.mixing)
        try:
            record = self._codec.decode(rows, reference)
        except ValueError as error:
            raise StoreError(f'View {view} of the store {self.root} has records that no mmtinyvit wrote ({error}): '
                             'save the view again.') from error
        record = record if partner is None else Record(*record[:3], partner)
        return record if topk in (None, self.topk) else record.top(topk)

    def require_classes(self, topk: int | None) -> None:
        """Raises :class:`StoreError` if ``topk`` classes cannot be read; None reads all that are stored."""
        if topk is not None and not 1 <= topk <= self.topk:
            raise StoreError(f'The store {self.root} has the top {self.topk} classes of each view, so topk={topk} '
                             f'cannot be read: choose a number from 1 to {self.topk}.')

    def read_packed(self, view: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """As :meth:`read_positions`, but the records as they lie in the shards, ``(n, record_bytes)`` uint8."""
        return self._read(view, positions)[0]

    def _read(self, view: int, positions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The packed records, and those that they are coded relative to, if there are such."""
        view, positions = check_view(view), np.asarray(positions, dtype=np.int64).reshape(-1).tolist()
        if positions and not (0 <= min(positions) and max(positions) < self.num_samples):
            raise StoreError(f'The store {self.root} has samples 0 to {self.num_samples - 1}, not {min(positions)} to '
                             f'{max(positions)}.')
        return self._packed(view, positions), self._reference(view, positions)

    def _packed(self, view: int, positions: list[int]) -> np.ndarray:
        size = self.manifest.samples_per_shard
        for shard, position in {position // size: position for position in positions}.items():
            self._shard(view, shard, position).refuse_cut()
        records = [self._shard(view, position // size, position).record(position % size) for position in positions]
        return np.frombuffer(b''.join(records), np.uint8).reshape(-1, self.record_bytes)

    def _shard(self, view: int, shard: int, position: int | None = None) -> Shard:
        """The mapped shard; ``position`` is only for the error."""
        found = self._open.get((view, shard))
        if found is None:
            expected = self.manifest.shards_per_view
            if not 0 <= shard < expected:
                raise StoreError(f'The store {self.root} has shards 0 to {expected - 1} in each view, not {shard}.')
            try:
                found = self._folder.open_shard(self.manifest, self.manifest.unit(view, shard))
            except OSError as error:
                kind = MissingShard if isinstance(error, FileNotFoundError) else StoreError
                raise kind(self._absence(view, shard, position, error)) from error
            self._open[view, shard] = found
            if len(self._open) > self._max_open:
                self._open.pop(next(iter(self._open)), None)  # unmapped once nobody reads it
        return found

    def _reference(self, view: int, positions: list[int]) -> np.ndarray | None:
        """The packed records that those of ``view`` are coded relative to, if there are such.

        Raises:
            StoreError: Their shard is not there, or another than the one that a shard of ``view`` was made with.
        """
        reference = self.manifest.reference
        if reference.view in (None, view):
            return None
        for shard in {position // self.manifest.samples_per_shard for position in positions}:
            try:
                found = self._shard(reference.view, shard)
            except StoreError as error:
                raise StoreError(f'View {view} of the store {self.root} is coded relative to view {reference.view}, '
                                 f'which cannot be read: {error}') from error
            relative = self._shard(view, shard)
            reference.check(relative.path, relative.reference, found.content, found.path)
        return self._codec.part(self._packed(reference.view, positions), self.mixing)[0]

    def _absence(self, view: int, shard: int, position: int | None, error: OSError) -> str:
        sample = '' if position is None else f' (asked for sample {self._keys.key(position)!r})'
        if not isinstance(error, FileNotFoundError):
            file = self._folder.where(self.manifest.unit(view, shard).file)
            return f'{file} cannot be opened{sample}, {error.strerror}: {way_out(error)}.'
        views = self.views
        if view in views:
            return (f'View {view} of the store {self.root} lacks shard {shard}{sample}: it is not completely saved or '
                    'copied; run the saving command again, it does only what is missing.')
        have = 'no views' if not views else f'the views {spell_numbers(views)}'
        return (f'The store {self.root} has no view {view}{sample}; it has {have}: save that view, or train with the '
                'views that are there.')

    def verify(self) -> Iterator[Finding]:
        """Checks everything, file by file; see :func:`verify_store`."""
        return verify_store(self.root)

    def decode(self) -> Iterator[Finding]:
        """Decodes every record, shard by shard: shows whether a codec wrote what has the right checksums."""
        meta = self.manifest
        units = meta.units(self.shards())
        for done, unit in enumerate(units, 1):
            path, problem = self._folder.where(unit.file), None
            for first in range(unit.first, unit.first + unit.count, _DECODED):
                positions = np.arange(first, min(first + _DECODED, unit.first + unit.count))
                try:
                    check_record(self.read_positions(unit.view, positions), len(positions), meta.topk,
                                 meta.num_classes, lambda i, first=first: f'sample {first + i}')
                except StoreError as error:
                    problem = f'{path} has checksums that are right and records that no mmtinyvit wrote: {error}'
                    break
            yield Finding(path, problem, done, len(units))
