"""One shard file: the records of a contiguous range of samples in one view.

    header, 64 bytes | blocks | canaries | crc32 of the canaries

A block is 8 records (the last one may have fewer) and their crc32. The crc starts from a value that depends on the
header and the block's number, so a block in the wrong place is found as surely as a flipped bit.
"""
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .errors import StoreError
from .layout import Unit

__all__ = ['BLOCK_RECORDS', 'Shard', 'pack_shard', 'shard_bytes']

BLOCK_RECORDS = 8
CANARY_BYTES = 16

_MAGIC = b'MTVLOGS\n'
# magic, format, layout, view, shard, first, count, record bytes, canaries, store id, crc32 of the 60 bytes before
_HEADER = struct.Struct('<8sHHIIQIII16s4xI')
_CANARY = struct.Struct(f'<Q{CANARY_BYTES}s')
_CRC = struct.Struct('<I')
_FORMAT = 1
_FIXED_WIDTH = 0
_RESIDUE = 0x2144DF1C  # crc32 of any data followed by its own little-endian crc32, whatever value it started from


def shard_bytes(count: int, record_bytes: int, num_canaries: int) -> int:
    """The size of a shard file."""
    blocks = -(-count // BLOCK_RECORDS)
    return _HEADER.size + count * record_bytes + blocks * _CRC.size + num_canaries * _CANARY.size + _CRC.size


def pack_shard(unit: Unit, store_id: bytes, records: np.ndarray, canaries: Mapping[int, bytes]) -> Iterator[bytes]:
    """Yields the bytes of a shard file.

    Args:
        unit: Which shard.
        store_id: 16 bytes.
        records: ``(count, record_bytes)`` uint8.
        canaries: Digests of 16 bytes by position in the store.
    """
    head = _HEADER.pack(_MAGIC, _FORMAT, _FIXED_WIDTH, unit.view, unit.shard, unit.first, unit.count,
                        records.shape[1], len(canaries), store_id, 0)[:-_CRC.size]
    head_crc = zlib.crc32(head)
    yield head + _CRC.pack(head_crc)
    for number, start in enumerate(range(0, unit.count, BLOCK_RECORDS)):
        block = records[start:start + BLOCK_RECORDS].tobytes()
        yield block + _CRC.pack(zlib.crc32(block, _start(head_crc, number)))
    tail = b''.join(_CANARY.pack(position, canaries[position]) for position in sorted(canaries))
    yield tail + _CRC.pack(zlib.crc32(tail, _start(head_crc, -1)))


def _start(head_crc: int, number: int) -> int:
    return (head_crc + number) & 0xFFFFFFFF


class Shard:
    """A shard file, memory-mapped, its header checked.

    Args:
        path: The file.
        unit: What the store expects it to be.
        store_id: The store's.
        record_bytes: The codec's, with the partner hash.

    Raises:
        StoreError: The file is missing, truncated, damaged, or from another store or place.
    """

    def __init__(self, path: Path, unit: Unit, store_id: bytes, record_bytes: int) -> None:
        self.path = path
        self.unit = unit
        self._stride = BLOCK_RECORDS * record_bytes + _CRC.size
        self._map = _open(path)
        fields = _HEADER.unpack(self._map[:_HEADER.size])
        head = self._map[:_HEADER.size - _CRC.size]
        num_canaries, self._head_crc = fields[8], fields[-1]
        if zlib.crc32(head) != self._head_crc:
            raise StoreError(f'{path} is damaged in its header: delete it and save again, or copy it again.')
        if fields[9] != store_id:
            raise StoreError(f'{path} belongs to another store: delete it and save again, or copy the right one.')
        want = _HEADER.pack(_MAGIC, _FORMAT, _FIXED_WIDTH, unit.view, unit.shard, unit.first, unit.count, record_bytes,
                            num_canaries, store_id, self._head_crc)
        if head != want[:-_CRC.size]:
            raise StoreError(f'{path} holds view {fields[3]}, shard {fields[4]}, or a layout that this library does '
                             'not read: it was renamed or comes from a newer mmtinyvit.')
        self._records_end = shard_bytes(unit.count, record_bytes, 0) - _CRC.size
        size = shard_bytes(unit.count, record_bytes, num_canaries)
        if len(self._map) != size:
            raise StoreError(f'{path} has {len(self._map)} bytes instead of {size}: it was cut off; delete it and '
                             'save again, or copy it again.')

    def block(self, number: int) -> bytes:
        """The records of one block, followed by their checksum, which was right.

        Raises:
            StoreError: It was not.
        """
        start = _HEADER.size + number * self._stride
        end = start + self._stride
        data = self._map[start:end if end < self._records_end else self._records_end]
        if zlib.crc32(data, (self._head_crc + number) & 0xFFFFFFFF) != _RESIDUE:
            first = self.unit.first + number * BLOCK_RECORDS
            last = min(first + BLOCK_RECORDS, self.unit.first + self.unit.count) - 1
            raise StoreError(f'{self.path} is damaged: the checksum of samples {first} to {last} in view '
                             f'{self.unit.view} is wrong; delete the file and save again, or copy it again.')
        return data

    def canaries(self) -> dict[int, bytes]:
        """The 16-byte digests of replayed samples by position in the store."""
        tail = self._map[self._records_end:]
        if zlib.crc32(tail, _start(self._head_crc, -1)) != _RESIDUE:
            raise StoreError(f'{self.path} is damaged in its canaries: delete it and save again, or copy it again.')
        return dict(_CANARY.iter_unpack(tail[:-_CRC.size]))

    def faults(self) -> Iterator[str]:
        """One sentence per damaged part."""
        checks = [lambda number=number: self.block(number) for number in range(-(-self.unit.count // BLOCK_RECORDS))]
        for check in (*checks, self.canaries):
            try:
                check()
            except StoreError as error:
                yield str(error)


def _open(path: Path) -> mmap.mmap:
    with open(path, 'rb') as file:  # a missing file is the caller's to explain
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            mapped = b''
    if len(mapped) < _HEADER.size:
        raise StoreError(f'{path} has only {len(mapped)} bytes: it was cut off; delete it and save again, or copy it '
                         'again.')
    return mapped
