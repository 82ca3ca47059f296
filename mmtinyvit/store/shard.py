"""One shard file: the records of a contiguous range of samples in one view.

    header, 64 bytes | table, in layout 1 | blocks | canaries | crc32 of the canaries

A block is 8 records (32 in layout 1; the last block may have fewer) and their crc32. The crc starts from a value that
depends on the header and the block's number, so a block in the wrong place is found as surely as a flipped bit.
"""
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .cut_records import BlockTable, cut_blocks, read_record
from .errors import StoreError
from .layout import Unit

__all__ = [
    'CONTENT_END', 'Shard', 'block_records', 'check_canaries', 'check_reference', 'cut_shard_bytes', 'pack_shard',
    'shard_bytes'
]

CANARY_BYTES = 16
CONTENT_END = 80  # in layout 1, where Shard.content ends in the file, 16 bytes after it begins

_MAGIC = b'MTVLOGS\n'
# magic, format, layout, view, shard, first, count, record bytes, canaries, store id, crc32 of the 60 bytes before
_HEADER = struct.Struct('<8sHHIIQIII16s4xI')
_CANARY = struct.Struct(f'<Q{CANARY_BYTES}s')
_CRC = struct.Struct('<I')
_FORMAT = 1
_FIXED_WIDTH, _CUT = 0, 1
_RESIDUE = 0x2144DF1C  # crc32 of any data followed by its own little-endian crc32, whatever value it started from


def block_records(variable: bool) -> int:
    """How many records are checked together; more where each block also costs an entry in a table."""
    return 32 if variable else 8


def shard_bytes(count: int, record_bytes: int, num_canaries: int) -> int:
    """The size of a shard file of records of fixed width."""
    blocks = -(-count // block_records(False))
    return _HEADER.size + count * record_bytes + blocks * _CRC.size + num_canaries * _CANARY.size + _CRC.size


def cut_shard_bytes(count: int, record_bytes: int, num_canaries: int, mean_bytes: float) -> int:
    """The size of a shard file of records of at most ``record_bytes`` bytes that have ``mean_bytes`` on average."""
    blocks = -(-count // block_records(True))
    lengths = count * (2 if record_bytes > 255 else 1)
    return (_HEADER.size + BlockTable.size(blocks) + lengths + round(count * mean_bytes) + blocks * _CRC.size
            + num_canaries * _CANARY.size + _CRC.size)


def pack_shard(unit: Unit, store_id: bytes, records: np.ndarray, canaries: Mapping[int, bytes],
               variable: bool = False, reference: bytes = bytes(16)) -> list[bytes]:
    """The bytes of a shard file, in pieces.

    Args:
        unit: Which shard.
        store_id: 16 bytes.
        records: ``(count, record_bytes)`` uint8.
        canaries: Digests of 16 bytes by position in the store.
        variable: Leave out the zero bytes at the end of each record.
        reference: ``Shard.content`` of the shard that the records are relative to.
    """
    head = _HEADER.pack(_MAGIC, _FORMAT, _CUT if variable else _FIXED_WIDTH, unit.view, unit.shard, unit.first,
                        unit.count, records.shape[1], len(canaries), store_id, 0)[:-_CRC.size]
    head_crc = zlib.crc32(head)
    chunks, size = [head + _CRC.pack(head_crc)], block_records(variable)
    if variable:
        blocks = cut_blocks(records, size)
        chunks.append(BlockTable.of(blocks, reference, _CRC.size).pack(_start(head_crc, -2)))
    else:
        blocks = [records[start:start + size].tobytes() for start in range(0, unit.count, size)]
    chunks += [block + _CRC.pack(zlib.crc32(block, _start(head_crc, number))) for number, block in enumerate(blocks)]
    tail = b''.join(_CANARY.pack(position, canaries[position]) for position in sorted(canaries))
    chunks.append(tail + _CRC.pack(zlib.crc32(tail, _start(head_crc, -1))))
    return chunks


def _start(head_crc: int, number: int) -> int:
    return (head_crc + number) & 0xFFFFFFFF


class Shard:
    """A shard file, memory-mapped, its header and table checked.

    Args:
        path: The file.
        unit: What the store expects it to be.
        store_id: The store's.
        record_bytes: The codec's, with the partner hash.
        variable: The codec's.

    Attributes:
        content: 16 bytes, the digest of its records as they are stored; empty if their width is fixed.
        reference: 16 bytes, the ``content`` of the shard that the records were made relative to; zeros if to none.

    Raises:
        StoreError: The file is missing, truncated, damaged, or from another store or place.
    """

    def __init__(self, path: Path, unit: Unit, store_id: bytes, record_bytes: int, variable: bool = False) -> None:
        self.path = path
        self.unit = unit
        self._record_bytes, self._variable, self._per_block = record_bytes, variable, block_records(variable)
        self._map = _open(path)
        fields = _HEADER.unpack(self._map[:_HEADER.size])
        head = self._map[:_HEADER.size - _CRC.size]
        num_canaries, self._head_crc = fields[8], fields[-1]
        if zlib.crc32(head) != self._head_crc:
            raise StoreError(f'{path} is damaged in its header: delete it and save again, or copy it again.')
        if fields[9] != store_id:
            raise StoreError(f'{path} belongs to another store: delete it and save again, or copy the right one.')
        want = _HEADER.pack(_MAGIC, _FORMAT, _CUT if variable else _FIXED_WIDTH, unit.view, unit.shard, unit.first,
                            unit.count, record_bytes, num_canaries, store_id, self._head_crc)
        if head != want[:-_CRC.size]:
            raise StoreError(f'{path} holds view {fields[3]}, shard {fields[4]}, or a layout that this library does '
                             'not read: it was renamed or comes from a newer mmtinyvit.')
        self.content = self.reference = b''
        if variable:
            self._read_table()
        else:
            size = self._per_block * record_bytes + _CRC.size
            self._edges = range(_HEADER.size, _HEADER.size + size * -(-unit.count // self._per_block) + 1, size)
            self._records_end = shard_bytes(unit.count, record_bytes, 0) - _CRC.size
        size = self._records_end + num_canaries * _CANARY.size + _CRC.size
        if len(self._map) != size:
            raise StoreError(f'{path} has {len(self._map)} bytes instead of {size}: it was cut off; delete it and '
                             'save again, or copy it again.')

    def _read_table(self) -> None:
        blocks = -(-self.unit.count // self._per_block)
        end = _HEADER.size + BlockTable.size(blocks)
        data = self._map[_HEADER.size:end]
        if len(data) != end - _HEADER.size or zlib.crc32(data, _start(self._head_crc, -2)) != _RESIDUE:
            raise StoreError(f'{self.path} is damaged in its table: delete it and save again, or copy it again.')
        table = BlockTable.unpack(data)
        self.content, self.reference = table.content, table.reference
        self._edges = [end, *(end + edge for edge in table.ends.tolist())]
        self._records_end = self._edges[-1]

    def block(self, number: int) -> bytes:
        """The records of one block, followed by their checksum, which was right.

        Raises:
            StoreError: It was not.
        """
        end = self._edges[number + 1]
        data = self._map[self._edges[number]:end if end < self._records_end else self._records_end]
        if zlib.crc32(data, (self._head_crc + number) & 0xFFFFFFFF) != _RESIDUE:
            first = self.unit.first + number * self._per_block
            last = min(first + self._per_block, self.unit.first + self.unit.count) - 1
            raise StoreError(f'{self.path} is damaged: the checksum of samples {first} to {last} in view '
                             f'{self.unit.view} is wrong; delete the file and save again, or copy it again.')
        return data

    def record(self, block: bytes, number: int, slot: int) -> bytes:
        """``record_bytes`` bytes: one of the records in what :meth:`block` returned for ``number``."""
        size = self._record_bytes
        if not self._variable:
            return block[slot * size:slot * size + size]
        return read_record(block, min(self._per_block, self.unit.count - number * self._per_block), slot, size)

    def rows(self, number: int) -> np.ndarray:
        """``(n, record_bytes)`` uint8: the records of one block."""
        block = self.block(number)
        count = min(self._per_block, self.unit.count - number * self._per_block)
        data = b''.join(self.record(block, number, slot) for slot in range(count))
        return np.frombuffer(data, np.uint8).reshape(count, self._record_bytes)

    def all_rows(self) -> np.ndarray:
        """``(count, record_bytes)`` uint8: all records."""
        return np.concatenate([self.rows(number) for number in range(-(-self.unit.count // self._per_block))])

    def canaries(self) -> dict[int, bytes]:
        """The 16-byte digests of replayed samples by position in the store."""
        tail = self._map[self._records_end:]
        if zlib.crc32(tail, _start(self._head_crc, -1)) != _RESIDUE:
            raise StoreError(f'{self.path} is damaged in its canaries: delete it and save again, or copy it again.')
        return dict(_CANARY.iter_unpack(tail[:-_CRC.size]))

    def faults(self) -> Iterator[str]:
        """One sentence per damaged part."""
        checks = [lambda number=number: self.block(number) for number in range(-(-self.unit.count // self._per_block))]
        for check in (*checks, self.canaries):
            try:
                check()
            except StoreError as error:
                yield str(error)


def check_canaries(unit: Unit, canaries: Mapping[int, bytes]) -> dict[int, bytes]:
    """The canaries of one shard as plain data.

    Raises:
        StoreError: One is of another shard, or too short or long.
    """
    canaries = {int(position): bytes(digest) for position, digest in canaries.items()}
    for position, digest in canaries.items():
        if not unit.first <= position < unit.first + unit.count or len(digest) != CANARY_BYTES:
            raise StoreError(f'A canary must be {CANARY_BYTES} bytes for a position from {unit.first} to '
                             f'{unit.first + unit.count - 1}, not {len(digest)} bytes for {position}.')
    return canaries


def check_reference(shard: Shard, content: bytes, name: Path | str) -> None:
    """Refuses a shard whose records are relative to others than those in the file ``name``, with this ``content``.

    Raises:
        StoreError: They are.
    """
    if shard.reference != content:
        raise StoreError(f'{shard.path} was coded relative to another {name} than the one that is there: delete the '
                         'former and save again, or copy both again from the same store.')


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
