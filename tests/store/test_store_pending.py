"""Records that wait for their shard: bytes, torn rows, several processes, and disks that are full."""
import os
import zlib

import numpy as np
import pytest

from mmtinyvit.store import PendingRecords, Record, StoreError, Unit
from mmtinyvit.store.pending import row_type

ID, TOPK, PER_SHARD = bytes(range(16)), 3, 10
UNIT = Unit(view=2, shard=1, first=10, count=10)


def opened(root, rank: int = 0, **changes) -> PendingRecords:
    settings = dict(store_id=ID, view=2, topk=TOPK, samples_per_shard=PER_SHARD, rank=rank, flush_seconds=0.) | changes
    return PendingRecords(root, **settings)


def said(positions, shift: int = 0) -> Record:
    """A record that follows from the positions."""
    positions = np.asarray(positions)
    return Record(positions[:, None] * 5 + np.arange(TOPK) + shift,
                  -(positions[:, None] + np.arange(TOPK, dtype=np.float32)),
                  positions.astype(np.float32) / 100, positions.astype(np.uint64) << np.uint64(40))


def check(arrays, positions) -> None:
    for ours, theirs in zip(arrays, said(positions), strict=True):
        assert (ours == theirs).all()


def test_the_bytes_of_a_row(tmp_path):
    """Position, K classes, K log-probabilities, tail mass, partner, canary, checksum: 41 + 6 K bytes."""
    opened(tmp_path).add(np.array([12]), said([12]), {12: b'c' * 16})
    data = (tmp_path / '.pending/view-0002/shard-00001-rank-00.records').read_bytes()
    assert len(data) == row_type(TOPK).itemsize == 6 * TOPK + 41
    assert data[:14].hex() == '0c00000000000000' + '3c003d003e00'
    assert data[30:38] == (12 << 40).to_bytes(8, 'little') and data[38:55] == b'\x01' + b'c' * 16
    assert data[-4:] == zlib.crc32(data[:-4], zlib.crc32(ID + b'\x02\0\0\0')).to_bytes(4, 'little')


def test_what_was_added_is_read(tmp_path):
    pending = opened(tmp_path)
    order = np.array([19, 3, 11, 27, 14, 10])
    for some in (order[:2], order[2:]):
        pending.add(some, said(some), {int(p): bytes([p] * 16) for p in some if p == 10})
    there, arrays, canaries = pending.read(UNIT)
    assert np.flatnonzero(there).tolist() == [0, 1, 4, 9]
    check((array[there] for array in arrays), [10, 11, 14, 19])
    assert canaries == {10: bytes([10] * 16)}
    pending.discard(UNIT)
    assert not pending.read(UNIT)[0].any() and pending.read(Unit(2, 0, 0, 10))[0].sum() == 1


def test_rows_go_to_disk_together(tmp_path):
    pending = opened(tmp_path, flush_seconds=1000.)
    pending.add(np.array([11]), said([11]), {})
    assert not pending.folder.exists()
    pending.flush()
    assert pending.read(UNIT)[0].sum() == 1
    pending.close()
    assert not (tmp_path / '.pending').exists()


def test_a_later_run_finds_them(tmp_path):
    opened(tmp_path).add(np.array([15, 12]), said([15, 12]), {})
    opened(tmp_path, rank=1).add(np.array([18, 30]), said([18, 30]), {})
    later = opened(tmp_path)
    known, arrays = later.find(np.array([30, 31, 12, 18, 10]))
    assert known.tolist() == [True, False, True, True, False]
    check((array[known] for array in arrays), [30, 12, 18])
    later.add(np.array([10]), said([10]), {})
    assert not later.find(np.array([10]))[0].any()  # its own are not looked up again
    assert later.read(UNIT)[0].sum() == 4


@pytest.mark.parametrize('cut', [1, 30, 58])
def test_a_torn_row_is_ignored(tmp_path, cut):
    opened(tmp_path).add(np.array([15, 12]), said([15, 12]), {})
    path, = (tmp_path / '.pending/view-0002').iterdir()
    os.truncate(path, path.stat().st_size - cut)
    later = opened(tmp_path)
    assert later.find(np.array([15, 12]))[0].tolist() == [True, False]
    later.add(np.array([12]), said([12]), {})
    there, arrays, _ = later.read(UNIT)
    assert np.flatnonzero(there).tolist() == [2, 5]
    check((array[there] for array in arrays), [12, 15])


@pytest.mark.parametrize('where', range(0, 59, 3))
def test_a_flipped_byte_is_ignored(tmp_path, where):
    opened(tmp_path).add(np.array([15, 12]), said([15, 12]), {15: bytes(16)})
    path, = (tmp_path / '.pending/view-0002').iterdir()
    data = bytearray(path.read_bytes())
    data[where] ^= 16
    path.write_bytes(data)
    later = opened(tmp_path)
    assert later.find(np.array([15, 12]))[0].tolist() == [False, True]
    assert np.flatnonzero(later.read(UNIT)[0]).tolist() == [2]


@pytest.mark.parametrize('changes', [dict(store_id=bytes(16)), dict(view=3)], ids=['store', 'view'])
def test_rows_of_another_store_or_view_are_ignored(tmp_path, changes):
    opened(tmp_path, **changes).add(np.array([15]), said([15]), {})
    folder, = (tmp_path / '.pending').iterdir()
    folder.rename(tmp_path / '.pending/view-0002')
    assert not opened(tmp_path).find(np.array([15]))[0].any()


def test_of_two_answers_the_lowest_rank_counts(tmp_path):
    opened(tmp_path, rank=1).add(np.array([15]), said([15], shift=1), {})
    opened(tmp_path).add(np.array([15, 15]), Record.concat([said([15]), said([15], 2)]), {})
    there, arrays, _ = opened(tmp_path).read(UNIT)
    check((array[there] for array in arrays), [15])


def test_a_full_disk(tmp_path, monkeypatch):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('builtins.open', full)
    with pytest.raises(StoreError, match='The disk is full'):
        opened(tmp_path).add(np.array([15]), said([15]), {})
