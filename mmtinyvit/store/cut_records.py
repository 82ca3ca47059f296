"""Layout 1: records without the zero bytes at their ends, and the table that says where their blocks are."""
import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import StoreError

__all__ = ['BlockTable', 'cut_blocks', 'cut_lengths', 'read_record']

_DIGESTS = struct.Struct('<16s16s')
_MAX_BYTES = 2**32 - 1


def cut_lengths(records: np.ndarray) -> np.ndarray:
    """``(n,)`` int64: the bytes of records ``(n, record_bytes)`` without the zeros at their ends."""
    used = records != 0
    return np.where(used.any(axis=1), records.shape[1] - used[:, ::-1].argmax(axis=1), 0)


def cut_blocks(records: np.ndarray, per_block: int) -> list[bytes]:
    """Records without the zero bytes at their ends, in blocks.

    A block begins with the length of each of its records, in one byte, or in two if records have more than 255.

    Args:
        records: ``(n, record_bytes)`` uint8.
        per_block: Records in each block but the last.
    """
    lengths = cut_lengths(records)
    kept = np.arange(records.shape[1]) < lengths[:, None]
    wide = '<u2' if records.shape[1] > 255 else 'u1'
    return [lengths[start:start + per_block].astype(wide).tobytes()
            + records[start:start + per_block][kept[start:start + per_block]].tobytes()
            for start in range(0, len(records), per_block)]


def read_record(block: bytes, count: int, slot: int, record_bytes: int) -> bytes:
    """One of ``count`` records of a block, with its zero bytes, ``record_bytes`` in all."""
    if record_bytes > 255:
        lengths = struct.unpack_from(f'<{count}H', block)
        start = 2 * count
    else:
        lengths, start = block[:count], count
    start += sum(lengths[:slot])
    return block[start:start + min(lengths[slot], record_bytes)].ljust(record_bytes, b'\0')


class BlockTable(NamedTuple):
    """What stands between the header and the blocks.

    Attributes:
        content: 16 bytes, the BLAKE2b digest of all blocks, without their checksums.
        reference: 16 bytes, ``content`` of the shard that the records are relative to, or zeros.
        ends: ``(blocks,)`` uint32, where each block ends, its checksum included, from the first block on.
    """
    content: bytes
    reference: bytes
    ends: np.ndarray

    @classmethod
    def of(cls, blocks: Sequence[bytes], reference: bytes, crc_bytes: int) -> 'BlockTable':
        """The table of a list of blocks, each of which will be followed by a checksum of ``crc_bytes``.

        Raises:
            StoreError: The shard would be larger than 4 GiB.
        """
        ends = np.cumsum([len(block) + crc_bytes for block in blocks])
        if ends[-1] > _MAX_BYTES:
            raise StoreError(f'A shard would have {ends[-1]} bytes of records, more than {_MAX_BYTES}: choose fewer '
                             'samples_per_shard.')
        return cls(hashlib.blake2b(b''.join(blocks), digest_size=16).digest(), reference, ends.astype('<u4'))

    @staticmethod
    def size(blocks: int) -> int:
        """Bytes of the table of so many blocks."""
        return _DIGESTS.size + 4 * blocks + 4

    def pack(self, crc_start: int) -> bytes:
        """The table and its checksum."""
        data = _DIGESTS.pack(self.content, self.reference) + self.ends.tobytes()
        return data + zlib.crc32(data, crc_start).to_bytes(4, 'little')

    @classmethod
    def unpack(cls, data: bytes) -> 'BlockTable':
        """The inverse, when the checksum was right."""
        return cls(*_DIGESTS.unpack_from(data), np.frombuffer(data[_DIGESTS.size:-4], '<u4'))
