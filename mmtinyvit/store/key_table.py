"""Looking up samples: a search that needs no memory of its own.

A key is found by a binary search over memory-mapped hashes, checked against the key's text; nothing is loaded per
sample.
"""
import mmap
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import StoreError
from .keys import INDEX_HEADER, index_header, key_digest
from .layout import INDEX_NAME, TEXT_NAME

__all__ = ['KeyTable']


class KeyTable:
    """The samples of a store, memory-mapped.

    Args:
        root: The store's folder.
        num_samples: What the manifest promises.
        salt: The manifest's ``key_salt``.

    Raises:
        StoreError: A samples file is missing, damaged, or belongs to another store.
    """

    def __init__(self, root: Path, num_samples: int, salt: int) -> None:
        self.root = root
        self.salt = salt
        self._text = _map(root / TEXT_NAME)
        index = _map(root / INDEX_NAME)
        self._num = num_samples
        expected = INDEX_HEADER.size + 8 * (num_samples + 1) + 8 * num_samples + 4 * num_samples
        if len(index) != expected:
            raise StoreError(f'{root / INDEX_NAME} has {len(index)} bytes, but {expected} are right for {num_samples} '
                             'samples: copy it again from where the store was written.')
        start = INDEX_HEADER.size
        self._offsets = np.frombuffer(index, '<u8', num_samples + 1, start)
        self._hashes = np.frombuffer(index, '<u8', num_samples, start + 8 * (num_samples + 1))
        self._positions = np.frombuffer(index, '<u4', num_samples, start + 8 * (2 * num_samples + 1))
        size = len(self._text)
        if index[:start] != index_header(salt, num_samples, size) or self._offsets[-1] != size:
            raise StoreError(f'{root / INDEX_NAME} is damaged, or does not belong to this store or to {TEXT_NAME}: '
                             'copy both samples files again from where the store was written.')
        # The same memory, for a training that asks for one sample at a time: its items are plain numbers.
        self._each_hash, self._each_position, self._each_offset = (
            memoryview(array.astype(array.dtype.newbyteorder('='), copy=False))
            for array in (self._hashes, self._positions, self._offsets))

    def __len__(self) -> int:
        return self._num

    def _line(self, position: int) -> bytes:
        """The bytes of one key as they stand, with the end of the line, unchecked."""
        start, end = self._offsets[position:position + 2].tolist()
        return self._text[start:end]

    def hash(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` uint64: the hashes of ``keys`` under this store's salt, as records name mixing partners."""
        return self._hash([key.encode(errors='surrogateescape') for key in keys])

    def _hash(self, keys: Sequence[bytes]) -> np.ndarray:
        return np.frombuffer(b''.join([key_digest(key, self.salt) for key in keys]), '<u8')

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """``(n,)`` int64: the positions of ``keys``, -1 where a key is not in the store. O(n log N)."""
        encoded = [key.encode(errors='surrogateescape') for key in keys]
        hashes = self._hash(encoded)
        slots = np.minimum(np.searchsorted(self._hashes, hashes), self._num - 1)
        positions = self._positions[slots].astype(np.int64)
        known = (self._hashes[slots] == hashes) & (positions < self._num)
        positions[~known] = -1
        starts, ends = self._offsets[positions].tolist(), self._offsets[positions + 1].tolist()
        for i in np.flatnonzero(known).tolist():
            if self._text[starts[i]:ends[i]] != encoded[i] + b'\n':
                self._check(int(positions[i]))
                positions[i] = -1  # sound, so it is another key with the same hash
        return positions

    def find_one(self, key: str) -> int:
        """The position of ``key``, as :meth:`find` gives it, sooner for one key."""
        encoded = key.encode(errors='surrogateescape')
        hashed = int.from_bytes(key_digest(encoded, self.salt), 'little')
        slot = bisect_left(self._each_hash, hashed)
        if slot == self._num or self._each_hash[slot] != hashed:
            return -1
        position = self._each_position[slot]
        if position >= self._num:
            return -1
        if self._text[self._each_offset[position]:self._each_offset[position + 1]] != encoded + b'\n':
            self._check(position)
            return -1  # sound, so it is another key with the same hash
        return position

    def key(self, position: int) -> str:
        """The key of the sample at ``position``, checked against its hash."""
        if not 0 <= position < self._num:
            raise StoreError(f'The store {self.root} has samples 0 to {self._num - 1}; there is no sample {position}.')
        return self._check(position).decode()

    def _check(self, position: int) -> bytes:
        """The key at ``position``, if text, offsets and hashes agree about it."""
        line = self._line(position)
        hashed = self._hash([line[:-1]])[0]
        slot = min(int(np.searchsorted(self._hashes, hashed)), self._num - 1)
        if not line.endswith(b'\n') or self._hashes[slot] != hashed or self._positions[slot] != position:
            raise StoreError(f'The samples files of the store {self.root} are damaged at sample {position}: copy them '
                             'again from where the store was written.')
        return line[:-1]


def _map(path: Path) -> mmap.mmap:
    try:
        with open(path, 'rb') as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        reason = getattr(error, 'strerror', None) or 'it is empty'
        raise StoreError(f'{path} cannot be opened ({reason}): copy it again from where the store was '
                         'written.') from error
