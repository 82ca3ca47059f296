"""One shard file: the records of a contiguous range of samples in one view.

    header, 64 bytes | table, in layout 1 | blocks | canaries | crc32 of the canaries

A block is 8 records (32 in layout 1; the last block may have fewer) and their crc32. The crc starts from a value that
depends on the header and the block's number, so a block in the wrong place is found as surely as a flipped bit. Layout
1 leaves out the zero bytes at the ends of records; its table says where the blocks are.
"""
import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .codecs import cut_lengths
from .errors import StoreError
from .files import map_file, open_file
from .layout import Unit
from .manifest import Manifest

__all__ = [
    'CANARY_BYTES', 'HEAD_BYTES', 'Shard', 'block_records', 'names_another_store', 'pack_shard', 'shard_bytes'
]

CANARY_BYTES = 16
HEAD_BYTES = 96  # view, shard, samples and store id, with their checksum; and digests, in layout 1

_MAGIC = b'MTVLOGS\n'
# magic, format, layout, view, shard, first, count, record bytes, canaries, store id, crc32 of the 60 bytes before
_HEADER = struct.Struct('<8sHHIIQIII16s4xI')
_DIGESTS = struct.Struct('<16s16s')
_CANARY = struct.Struct(f'<Q{CANARY_BYTES}s')
_CRC = struct.Struct('<I')
_FORMAT = 1
_FIXED_WIDTH, _CUT = 0, 1
_TABLE, _CANARIES = -2, -1  # stand for the number of a block in the checksums of the other parts
_RESIDUE = 0x2144DF1C  # crc32 of any data followed by its own little-endian crc32, whatever value it started from


def block_records(variable: bool) -> int:
    """How many records are checked together; more where each block also costs an entry in a table."""
    return 32 if variable else 8


def shard_bytes(count: int, record_bytes: int, num_canaries: int, mean_bytes: float | None = None) -> int:
    """The size of a shard file, of records of fixed width or, with ``mean_bytes``, of records of that mean length."""
    blocks = -(-count // block_records(mean_bytes is not None))
    size = _HEADER.size + blocks * _CRC.size + num_canaries * _CANARY.size + _CRC.size
    if mean_bytes is None:
        return size + count * record_bytes
    return size + _table_bytes(blocks) + count * (2 if record_bytes > 255 else 1) + round(count * mean_bytes)


def _table_bytes(blocks: int) -> int:
    return _DIGESTS.size + 4 * blocks + _CRC.size


# ---------------------------------------------------------------- writing
def pack_shard(manifest: Manifest, unit: Unit, records: np.ndarray, canaries: Mapping[int, bytes],
               reference: 'Shard | None' = None) -> list[bytes]:
    """The bytes of a shard file, in pieces.

    Args:
        manifest: The store's.
        unit: Which shard.
        records: ``(count, record_bytes)`` uint8.
        canaries: Digests of 16 bytes by position in the store.
        reference: The shard that the records are relative to, if any.

    Raises:
        StoreError: A canary is of another shard, or too short or long; or the shard would have more than 4 GiB.
    """
    for position, digest in canaries.items():
        if not unit.first <= position < unit.first + unit.count or len(digest) != CANARY_BYTES:
            raise StoreError(f'A canary must be {CANARY_BYTES} bytes for a position from {unit.first} to '
                             f'{unit.first + unit.count - 1}, not {len(digest)} bytes for {position}.')
    variable = manifest.record_codec.variable
    head = _head(manifest, unit, len(canaries))
    head_crc, size = zlib.crc32(head), block_records(variable)
    pieces = [head + _CRC.pack(head_crc)]
    if variable:
        blocks = _cut_blocks(records, size)
        content = reference.content if reference else bytes(16)
        pieces.append(_sealed(_table(blocks, content), head_crc, _TABLE))
    else:
        blocks = [records[start:start + size].tobytes() for start in range(0, unit.count, size)]
    pieces += [_sealed(block, head_crc, number) for number, block in enumerate(blocks)]
    tail = b''.join(_CANARY.pack(position, canaries[position]) for position in sorted(canaries))
    return [*pieces, _sealed(tail, head_crc, _CANARIES)]


def _head(manifest: Manifest, unit: Unit, num_canaries: int) -> bytes:
    """The header without its checksum."""
    layout = _CUT if manifest.record_codec.variable else _FIXED_WIDTH
    return _HEADER.pack(_MAGIC, _FORMAT, layout, unit.view, unit.shard, unit.first, unit.count, manifest.record_bytes,
                        num_canaries, manifest.store_id, 0)[:-_CRC.size]


def _sealed(data: bytes, head_crc: int, number: int) -> bytes:
    return data + _CRC.pack(zlib.crc32(data, (head_crc + number) & 0xFFFFFFFF))


def _cut_blocks(records: np.ndarray, per_block: int) -> list[bytes]:
    """Records without the zero bytes at their ends, in blocks.

    A block begins with the length of each of its records, in one byte, or in two if records have more than 255.
    """
    lengths = cut_lengths(records)
    kept = np.arange(records.shape[1]) < lengths[:, None]
    wide = '<u2' if records.shape[1] > 255 else 'u1'
    rows = [slice(start, start + per_block) for start in range(0, len(records), per_block)]
    return [lengths[some].astype(wide).tobytes() + records[some][kept[some]].tobytes() for some in rows]


def _table(blocks: list[bytes], reference: bytes) -> bytes:
    """The digest of all blocks, that of the reference, and where each block ends, counted from the first."""
    ends = np.cumsum([len(block) + _CRC.size for block in blocks])
    if ends[-1] >= 2**32:
        raise StoreError(f'A shard would have {ends[-1]} bytes of records, more than {2**32 - 1}: choose fewer '
                         'samples_per_shard.')
    content = hashlib.blake2b(b''.join(blocks), digest_size=16).digest()
    return _DIGESTS.pack(content, reference) + ends.astype('<u4').tobytes()


# ---------------------------------------------------------------- reading
class Shard:
    """A shard file, memory-mapped, its header and table checked.

    Args:
        path: The file.
        manifest: The store's.
        unit: What the store expects it to be.

    Attributes:
        path: The file.
        unit: What it holds.
        content: 16 bytes, the digest of its records as they are stored; empty if their width is fixed.
        reference: 16 bytes, the ``content`` of the shard that the records were made relative to; zeros if to none.

    Raises:
        OSError: The file is missing or cannot be opened.
        StoreError: It is truncated, damaged, or from another store or place.
    """

    def __init__(self, path: Path, manifest: Manifest, unit: Unit) -> None:
        self.path, self.unit = path, unit
        self._record_bytes, self._variable = manifest.record_bytes, manifest.record_codec.variable
        self._per_block = block_records(self._variable)
        self._last = -1, b''  # the block that was read last: neighbours share the work of checking
        self._num_blocks = -(-unit.count // self._per_block)
        self._map = map_file(path)
        if len(self._map) < _HEADER.size:
            raise StoreError(f'{path} has only {len(self._map)} bytes: it was cut off; delete it and save again, or '
                             'copy it again.')
        fields = _HEADER.unpack(self._map[:_HEADER.size])
        head = self._map[:_HEADER.size - _CRC.size]
        num_canaries, store_id, self._head_crc = fields[8:]
        if zlib.crc32(head) != self._head_crc:
            raise StoreError(f'{path} is damaged in its header: delete it and save again, or copy it again.')
        if store_id != manifest.store_id:
            raise StoreError(f'{path} belongs to another store: delete it and save again, or copy the right one.')
        if head != _head(manifest, unit, num_canaries):
            raise StoreError(f'{path} holds view {fields[3]}, shard {fields[4]}, or a layout that this library does '
                             'not read: it was renamed or comes from a newer mmtinyvit.')
        self.content = self.reference = b''
        if self._variable:
            self._read_table()
        else:
            size = self._per_block * self._record_bytes + _CRC.size
            self._edges = range(_HEADER.size, _HEADER.size + size * self._num_blocks + 1, size)
            self._records_end = shard_bytes(unit.count, self._record_bytes, 0) - _CRC.size
        self._size = self._records_end + num_canaries * _CANARY.size + _CRC.size
        if len(self._map) != self._size:
            raise StoreError(f'{path} has {len(self._map)} bytes instead of {self._size}: it was cut off; delete it '
                             'and save again, or copy it again.')

    def _read_table(self) -> None:
        start = _HEADER.size + _table_bytes(self._num_blocks)
        table = self._map[_HEADER.size:start]
        if len(table) != start - _HEADER.size or not self._is_whole(table, _TABLE):
            raise StoreError(f'{self.path} is damaged in its table: delete it and save again, or copy it again.')
        self.content, self.reference = _DIGESTS.unpack_from(table)
        ends = np.frombuffer(table[_DIGESTS.size:-_CRC.size], '<u4').tolist()
        self._edges = [start, *(start + end for end in ends)]
        self._records_end = self._edges[-1]

    def refuse_cut(self) -> None:
        """Raises :class:`StoreError` if the file has lost bytes since it was mapped.

        The system ends a process that reads them. So this comes before any reading; not with each record, because
        asking for a file's size takes half as long as reading one.
        """
        if self._map.size() < self._size:
            raise StoreError(f'{self.path} was cut off while it was open: copy it again, or delete it and save again; '
                             'then start again.')

    def _is_whole(self, data: bytes, number: int) -> bool:
        """Whether the checksum at the end of a part of the file is right."""
        return zlib.crc32(data, (self._head_crc + number) & 0xFFFFFFFF) == _RESIDUE

    def _block(self, number: int) -> bytes:
        """The records of one block, followed by their checksum.

        Raises:
            StoreError: The checksum is wrong, or no codec has written this.
        """
        data = self._map[self._edges[number]:min(self._edges[number + 1], self._records_end)]
        if not self._is_whole(data, number):
            raise StoreError(f'{self.path} is damaged: the checksum of {self._samples(number)} is wrong; delete the '
                             'file and save again, or copy it again.')
        if self._variable:
            lengths, start = self._lengths(data, number)
            if start + sum(lengths) + _CRC.size != len(data):
                raise StoreError(f'{self.path} has records that no mmtinyvit wrote: the lengths of '
                                 f'{self._samples(number)} are not those of their block; delete the file and save '
                                 'again.')
        return data

    def _samples(self, number: int) -> str:
        """What to call the samples of a block."""
        first = self.unit.first + number * self._per_block
        return f'samples {first} to {first + self._count(number) - 1} in view {self.unit.view}'

    def _lengths(self, block: bytes, number: int) -> tuple[Sequence[int], int]:
        """How long each record of a block is, where lengths vary, and where the first record begins."""
        count = self._count(number)
        if self._record_bytes <= 255:
            return block[:count], count
        return np.frombuffer(block[:2 * count].ljust(2 * count, b'\0'), '<u2').tolist(), 2 * count

    def _count(self, number: int) -> int:
        """Records in one block."""
        return min(self._per_block, self.unit.count - number * self._per_block)

    def record(self, place: int) -> bytes:
        """``record_bytes`` bytes: the record at ``place`` in the shard, after :meth:`refuse_cut`.

        Raises:
            StoreError: It is damaged.
        """
        number, slot = divmod(place, self._per_block)
        last, block = self._last
        if number != last:
            block = self._block(number)
            self._last = number, block
        size = self._record_bytes
        if not self._variable:
            return block[slot * size:slot * size + size]
        lengths, start = self._lengths(block, number)
        start += sum(lengths[:slot])
        if lengths[slot] > size:
            raise StoreError(f'{self.path} has a record that no mmtinyvit wrote: that of sample '
                             f'{self.unit.first + place} in view {self.unit.view} is too long; delete the file and '
                             'save again.')
        return block[start:start + lengths[slot]].ljust(size, b'\0')

    def records(self) -> np.ndarray:
        """``(count, record_bytes)`` uint8: all records."""
        self.refuse_cut()
        found = b''.join(map(self.record, range(self.unit.count)))
        return np.frombuffer(found, np.uint8).reshape(-1, self._record_bytes)

    def canaries(self) -> dict[int, bytes]:
        """The 16-byte digests of replayed samples by position in the store."""
        self.refuse_cut()
        tail = self._map[self._records_end:]
        if not self._is_whole(tail, _CANARIES):
            raise StoreError(f'{self.path} is damaged in its canaries: delete it and save again, or copy it again.')
        return dict(_CANARY.iter_unpack(tail[:-_CRC.size]))

    def fault(self) -> str | None:
        """One sentence on what is damaged, None if nothing is; every byte is read."""
        self.refuse_cut()
        found = []
        for check in (*(partial(self._block, number) for number in range(self._num_blocks)), self.canaries):
            try:
                check()
            except StoreError as error:
                found.append(str(error))
        more = f' ({len(found) - 1} more parts of it are damaged too)' if len(found) > 1 else ''
        return found[0].replace(str(self.path), f'{self.path}{more}', 1) if found else None


def names_another_store(path: Path, store_id: bytes) -> bool:
    """Whether a file is that of a shard whose header is sound and names another store."""
    try:
        with open_file(path) as file:
            head = file.read(_HEADER.size)
    except OSError:
        return False
    return len(head) == _HEADER.size and zlib.crc32(head) == _RESIDUE and _HEADER.unpack(head)[9] != store_id
