"""The original TinyViT's files of teacher logits (Microsoft Cream, MIT licence), for reading.

    logits_top100_epoch0/rank0-keys.txt      the keys, one per line
    logits_top100_epoch0/rank0-values.bin    for each key: seed <i4, K classes <i2, K probabilities <f2

One pair of files per process that saved; a sample that padded a sampler is in two of them.
"""
import re
from itertools import islice
from pathlib import Path

import numpy as np

from .errors import StoreError
from .files import translated
from .key_table import KeyTable

__all__ = ['CreamEpoch', 'find_epochs']

_EPOCH = re.compile(r'logits_top(\d{1,5})_epoch(\d{1,6})')
_KEYS = re.compile(r'rank(\d{1,6})-keys\.txt')
_CHUNK = 65_536


def find_epochs(folder: Path, topk: int | None = None) -> tuple[int, dict[int, Path]]:
    """K, and the folders of all epochs.

    Args:
        folder: The original's ``DISTILL.TEACHER_LOGITS_PATH``.
        topk: Which K, if there are several.

    Raises:
        StoreError: There are no such folders, or several K.
    """
    with translated(folder):
        matches = [(path, _EPOCH.fullmatch(path.name)) for path in sorted(folder.iterdir()) if path.is_dir()]
    found: dict[int, dict[int, Path]] = {}
    for path, match in matches:
        if match:
            found.setdefault(int(match[1]), {})[int(match[2])] = path
    if topk is None and len(found) > 1:
        raise StoreError(f'{folder} has logits of top {" and ".join(map(str, sorted(found)))}: say which with --topk.')
    if not found or topk not in (None, *found):
        raise StoreError(f'{folder} has no folders named logits_top{topk or "K"}_epochE, which the original TinyViT '
                         'saves: give the folder that was its DISTILL.TEACHER_LOGITS_PATH.')
    topk = next(iter(found)) if topk is None else topk
    return topk, dict(sorted(found[topk].items()))


class CreamEpoch:
    """The logits of one epoch, found by position.

    Where several processes saved the same sample, the lowest rank counts.

    Args:
        path: The epoch's folder.
        topk: K.
        table: The original's keys in the wanted order.

    Attributes:
        unknown: Keys in the files that ``table`` lacks.
        repeated: Keys that were there already.

    Raises:
        StoreError: A file is missing or cut off.
    """

    def __init__(self, path: Path, topk: int, table: KeyTable) -> None:
        self.path = path
        self.unknown = self.repeated = 0
        self._values: list[np.ndarray] = []
        self._package = np.full(len(table), -1, np.int32)
        self._row = np.zeros(len(table), np.int64)
        record = np.dtype([('seed', '<i4'), ('index', '<u2', (topk,)), ('prob', '<f2', (topk,))])
        with translated(path):
            ranks = sorted(int(match[1]) for file in path.iterdir() if (match := _KEYS.fullmatch(file.name)))
            for rank in ranks:
                count = self._locate(path / f'rank{rank}-keys.txt', table)
                values = path / f'rank{rank}-values.bin'
                size = values.stat().st_size if values.exists() else 0
                if size != count * record.itemsize:
                    raise StoreError(f'{values} has {size} bytes, but {count} keys with the top {topk} need '
                                     f'{count * record.itemsize}: it was cut off, or K is another one; copy it again.')
                self._values.append(np.memmap(values, record, 'r') if count else np.empty(0, record))
        if not ranks:
            raise StoreError(f'{path} has no rank0-keys.txt and rank0-values.bin: its saving did not finish; copy it '
                             'again.')

    def _locate(self, path: Path, table: KeyTable) -> int:
        """Notes where each key of one file is; the number of keys."""
        count = 0
        with open(path, encoding='utf-8', newline='\n') as file:
            while chunk := [line.strip() for line in islice(file, _CHUNK)]:
                positions = table.find(chunk)
                rows = np.flatnonzero(positions >= 0)
                _, first = np.unique(positions[rows], return_index=True)
                rows = rows[first]
                rows = rows[self._package[positions[rows]] < 0]
                self._package[positions[rows]] = len(self._values)
                self._row[positions[rows]] = count + rows
                unknown = int((positions < 0).sum())
                self.unknown += unknown
                self.repeated += len(chunk) - unknown - len(rows)
                count += len(chunk)
        return count

    def missing(self) -> np.ndarray:
        """The positions that no file has."""
        return np.flatnonzero(self._package < 0)

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(n, K)`` uint16 classes and ``(n, K)`` half-precision probabilities, in the original's order."""
        packages, rows = self._package[positions], self._row[positions]
        records = np.empty(len(positions), self._values[0].dtype)
        for number in np.unique(packages).tolist():
            here = packages == number
            records[here] = self._values[number][rows[here]]
        return records['index'], records['prob']
