"""Records in the order of their coming, on disk until their shard is whole.

    .pending/view-0003/shard-00012-rank-00.records

A training shuffles, so the records of a shard come all through an epoch. They wait here, sorted by shard only, as rows
of fixed width, each with its checksum: what a killed process left is taken up again, and a torn row is ignored. The
folder holds nothing that cannot be computed again and may be deleted at any time.
"""
import shutil
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .files import make_own_folder, open_file, open_own, reading, refuse_linked_folder, translated
from .layout import Unit, view_name
from .record import Record
from .shard import CANARY_BYTES

__all__ = ['PENDING_NAME', 'PendingRecords', 'row_type']

PENDING_NAME = '.pending'


def row_type(topk: int) -> np.dtype:
    """The bytes of one row; its checksum covers all before it, and starts from the store and view that it is of."""
    return np.dtype([('position', '<u8'), ('index', '<u2', topk), ('log_prob', '<f4', topk), ('tail_mass', '<f4'),
                     ('partner_hash', '<u8'), ('has_canary', 'u1'), ('canary', 'u1', CANARY_BYTES), ('crc', '<u4')])


class PendingRecords:
    """The waiting records of one view.

    Any number of processes work on one view, each with a rank of its own. Of what earlier runs left, only where each
    record is stands in memory, 16 bytes for each.

    Args:
        root, store_id, topk, samples_per_shard: Those of the store.
        view: The view.
        rank: This process.
        flush_seconds: Rows go to disk together, at the latest after this time: what a kill may cost.

    Raises:
        StoreError: The folder of what is pending is a link.
    """

    def __init__(self, root: Path, store_id: bytes, view: int, topk: int, samples_per_shard: int, rank: int = 0,
                 flush_seconds: float = 5.) -> None:
        self.root = Path(root)
        self.view = view
        self.folder = self.root / PENDING_NAME / view_name(view)
        for folder in (self.folder.parent, self.folder):
            refuse_linked_folder(folder)
        self._type = row_type(topk)
        self._start = zlib.crc32(store_id + view.to_bytes(4, 'little'))
        self._per_shard = samples_per_shard
        self._rank = rank
        self._flush_seconds = flush_seconds
        self._flushed = time.monotonic()
        self._waiting: list[np.ndarray] = []
        with reading(self.root):
            self._earlier = [np.memmap(path, self._type, 'r', shape=count)
                             for path in sorted(self.folder.glob('shard-*.records'))
                             if (count := path.stat().st_size // self._type.itemsize)]
        self._starts = np.cumsum([0, *map(len, self._earlier)])
        positions = np.concatenate([np.empty(0, '<u8'), *(rows['position'] for rows in self._earlier)])
        self._order = positions.argsort(kind='stable')
        self._positions = positions[self._order]

    # ---------------------------------------------------------------- adding
    def add(self, positions: np.ndarray, record: Record, canaries: Mapping[int, bytes]) -> None:
        """Takes in ``n`` records.

        Args:
            positions: ``(n,)``, in the store.
            record: ``n`` rows, classes below 65,536.
            canaries: Digests by position, of those that have one.

        Raises:
            StoreError: The disk is full.
        """
        rows = np.zeros(len(positions), self._type)
        rows['position'] = positions
        for name, part in zip(Record._fields, record, strict=True):
            if part is not None:
                rows[name] = part
        for i, position in enumerate(np.asarray(positions).tolist()):
            if position in canaries:
                rows['has_canary'][i], rows['canary'][i] = 1, np.frombuffer(canaries[position], np.uint8)
        rows['crc'] = self._checksums(rows)
        self._waiting.append(rows)
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Appends what waits in memory to the files."""
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting.clear()
        shards = rows['position'] // self._per_shard
        with translated(self.root, rows.nbytes):
            make_own_folder(self.folder.parent)
            make_own_folder(self.folder)
            for shard in np.unique(shards).tolist():
                path = self.folder / f'shard-{shard:05d}-rank-{self._rank:02d}.records'
                with open(path, 'ab', opener=open_own) as file:
                    file.truncate(file.tell() // self._type.itemsize * self._type.itemsize)  # a row that was torn
                    file.write(rows[shards == shard].tobytes())

    # ---------------------------------------------------------------- looking up
    def find(self, positions: np.ndarray) -> tuple[np.ndarray, Record]:
        """What earlier runs left about ``positions``.

        Args:
            positions: ``(n,)`` int64.

        Returns:
            ``(n,)`` bool, which are known, and a record of all ``n``, zero where unknown.
        """
        rows, known = np.zeros(len(positions), self._type), np.zeros(len(positions), bool)
        places = np.searchsorted(self._positions, np.asarray(positions, np.uint64))
        for i, (position, place) in enumerate(zip(np.asarray(positions).tolist(), places.tolist(), strict=True)):
            if place < len(self._positions) and self._positions[place] == position:
                number = self._order[place]
                file = int(np.searchsorted(self._starts, number, side='right')) - 1
                first = number - self._starts[file]
                row = self._earlier[file][first:first + 1]
                if self._checksums(row)[0] == row['crc'][0]:
                    rows[i], known[i] = row[0], True
        return known, _record(rows)

    def read(self, unit: Unit) -> tuple[np.ndarray, Record, dict[int, bytes]]:
        """All that any process has added about one shard, once that is flushed; of several rows about one sample, the
        first of the lowest rank.

        Returns:
            ``(count,)`` bool, which are present; a record of all ``count``, zero where not; and canaries by position.
        """
        present, rows = np.zeros(unit.count, bool), np.zeros(unit.count, self._type)
        for path in self._files(unit):
            with reading(self.root), open_file(path) as file:
                data = file.read()
            found = np.frombuffer(data, self._type, len(data) // self._type.itemsize)
            found = found[self._checksums(found) == found['crc']]
            places, first = np.unique(found['position'].astype(np.int64) - unit.first, return_index=True)
            new = (places >= 0) & (places < unit.count)
            new[new] = ~present[places[new]]
            rows[places[new]] = found[first[new]]
            present[places[new]] = True
        canaries = {int(row['position']): row['canary'].tobytes() for row in rows[present & (rows['has_canary'] == 1)]}
        return present, _record(rows), canaries

    # ---------------------------------------------------------------- clearing away
    def discard(self, unit: Unit) -> None:
        """Deletes the rows of a shard, which is published now."""
        for path in self._files(unit):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Deletes the view's folder; no process may use it any more."""
        self._earlier.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _files(self, unit: Unit) -> list[Path]:
        return sorted(self.folder.glob(f'shard-{unit.shard:05d}-rank-*.records'))

    def _checksums(self, rows: np.ndarray) -> np.ndarray:
        size = self._type.itemsize
        data = rows.tobytes()
        return np.array([zlib.crc32(data[i:i + size - 4], self._start) for i in range(0, len(data), size)], np.uint32)


def _record(rows: np.ndarray) -> Record:
    return Record(rows['index'].astype(np.int64), *(rows[name].copy() for name in Record._fields[1:]))
