"""Whatever happens to a byte of a store is found, by checking and by reading."""
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from store_teacher import KEYS as SAMPLE_KEYS
from store_teacher import contents, dense, hashes, make_older, manifest, save, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, Record, StoreError, Unit, verify_store

KEYS = ['a/0.png', 'b/1.png', 'a/2.png']
INDEX = np.array([[0, 4], [2, 1], [3, 0]])
LOG_PROB = np.log(np.array([[0.5, 0.25], [0.75, 0.25], [0.5, 0.375]], np.float32))
TAIL = np.array([0.25, 0, 0.125], np.float32)


def make(path, views=(0,), **changes):
    """Three samples in shards of two, with canaries and mixing partners."""
    request = dict(topk=2, num_classes=5, samples_per_shard=2, mixing=True, codec='exact') | changes
    with LogitWriter(path, request, KEYS) as writer:
        partner = hashes([KEYS[1], KEYS[0], KEYS[2]])
        for unit in writer.missing(views):
            rows = slice(unit.first, unit.first + unit.count)
            record = Record(INDEX[rows], LOG_PROB[rows], TAIL[rows], partner[rows])
            writer.write_shard(unit, record, {unit.first: b'c' * 16})
        return writer.manifest


@pytest.fixture
def tiny(tmp_path):
    make(tmp_path / 's')
    return tmp_path / 's'


def problems(path):
    return [finding for finding in verify_store(path) if finding.problem]


def touch_everything(path):
    store = LogitStore(path)
    for view in store.views:
        store.read(view, KEYS)
        for shard in range(2):
            store.canaries(view, shard)
    assert [store.key(i) for i in range(3)] == KEYS


def test_exact_bytes_of_a_shard(tiny):
    manifest = LogitStore(tiny).manifest
    head = struct.pack('<8sHHIIQIII16sI', b'MTVLOGS\n', 1, 0, 0, 0, 0, 2, 18, 1, manifest.store_id, 0)
    crc = zlib.crc32(head)
    records = bytes.fromhex('0000 0400 0038 0034 0034') + hashes([KEYS[1]]).tobytes()
    records += bytes.fromhex('0100 0200 0034 003a 0000') + hashes([KEYS[0]]).tobytes()
    canary = struct.pack('<Q', 0) + b'c' * 16
    expected = head + struct.pack('<I', crc)
    expected += records + struct.pack('<I', zlib.crc32(records, crc))
    expected += canary + struct.pack('<I', zlib.crc32(canary, crc - 1))
    assert (tiny / 'view-0000' / 'shard-00000.logits').read_bytes() == expected
    assert sorted(contents(tiny)) == ['manifest.json', 'samples.idx', 'samples.txt', 'view-0000/shard-00000.logits',
                                      'view-0000/shard-00001.logits']


@pytest.mark.parametrize('codec, views', [('exact', [0]), ('compact', [0]), ('smallest', [0, 3])])
def test_every_flipped_byte_is_found_by_checking_and_by_reading(tmp_path, codec, views):
    tiny = tmp_path / 's'
    make(tiny, views, codec=codec)
    touch_everything(tiny)
    assert problems(tiny) == []
    flipped = 0
    for name, data in contents(tiny).items():
        with open(tiny / name, 'r+b', buffering=0) as file:
            for i in range(len(data)):
                mask = (0x01, 0x80, 0xFF)[i % 3]
                os.pwrite(file.fileno(), bytes([data[i] ^ mask]), i)
                assert any(str(finding.path).endswith(name) for finding in problems(tiny)), (name, i, mask)
                with pytest.raises(StoreError):
                    touch_everything(tiny)
                flipped += 1
                os.pwrite(file.fileno(), data[i:i + 1], i)
    assert flipped == sum(map(len, contents(tiny).values()))
    touch_everything(tiny)


def test_every_cut_is_found(tiny):
    for name, data in contents(tiny).items():
        for size in range(0, len(data), 11):
            (tiny / name).write_bytes(data[:size])
            assert problems(tiny), (name, size)
            with pytest.raises(StoreError):
                touch_everything(tiny)
        (tiny / name).write_bytes(data + b'\0')
        assert problems(tiny), name
        with pytest.raises(StoreError):
            touch_everything(tiny)
        (tiny / name).write_bytes(data)
    touch_everything(tiny)


def test_a_damaged_record_names_its_samples_and_leaves_the_others(tmp_path):
    keys = [str(i) for i in range(20)]
    with LogitWriter(tmp_path / 's', dict(topk=1, num_classes=2, samples_per_shard=20), keys) as writer:
        unit = writer.unit(3, 0)
        zeros = np.zeros((20, 1), np.float32)
        writer.write_shard(unit, Record(zeros.astype(int), zeros, zeros[:, 0]))
    path = tmp_path / 's' / 'view-0003' / 'shard-00000.logits'
    store = LogitStore(tmp_path / 's')
    at = 64 + 8 * store.record_bytes + 4 + 1  # in the second block of eight
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    store = LogitStore(tmp_path / 's')
    assert len(store.read(3, keys[:8] + keys[16:]).index) == 12
    with pytest.raises(StoreError, match=r'shard-00000.logits is damaged: the checksum of samples 8 to 15 in view 3'):
        store.read(3, ['2', '15'])
    assert len(problems(tmp_path / 's')) == 1


@pytest.mark.parametrize('other', [dict(base_seed=1), dict(fingerprints=dict(teacher='another'))])
def test_shards_of_another_store_are_found(tiny, tmp_path, other):
    make(tmp_path / 'other', **other)
    shutil.copy(tmp_path / 'other/view-0000/shard-00000.logits', tiny / 'view-0000/shard-00000.logits')
    assert [finding.problem.split(' belongs')[1] for finding in problems(tiny)] == [
        ' to another store: delete it and save again, or copy the right one.']
    with pytest.raises(StoreError, match='belongs to another store'):
        touch_everything(tiny)


def test_moved_shards_and_blocks_are_found(tmp_path):
    keys = [str(i) for i in range(32)]
    with LogitWriter(tmp_path / 's', dict(topk=1, num_classes=9, samples_per_shard=16), keys) as writer:
        for unit in writer.missing([0, 1]):
            zeros = np.zeros((16, 1), np.float32)
            writer.write_shard(unit, Record(np.full((16, 1), unit.view), zeros, zeros[:, 0]))
    folder = tmp_path / 's' / 'view-0000'
    first = (folder / 'shard-00000.logits').read_bytes()
    (folder / 'shard-00001.logits').write_bytes(first)  # renamed within the view
    with pytest.raises(StoreError, match='holds view 0, shard 0'):
        LogitStore(tmp_path / 's').read_positions(0, [16])
    shutil.copy(tmp_path / 's/view-0001/shard-00000.logits', folder / 'shard-00000.logits')  # a view mistaken
    with pytest.raises(StoreError, match='holds view 1, shard 0'):
        LogitStore(tmp_path / 's').read_positions(0, [0])
    block = 8 * LogitStore(tmp_path / 's').record_bytes + 4
    swapped = first[:64] + first[64 + block:64 + 2 * block] + first[64:64 + block] + first[64 + 2 * block:]
    assert first[64:64 + block - 4] == swapped[64:64 + block - 4] and first != swapped  # the same records even
    (folder / 'shard-00000.logits').write_bytes(swapped)
    with pytest.raises(StoreError, match='checksum of samples 0 to 7'):
        LogitStore(tmp_path / 's').read_positions(0, [0])


@pytest.mark.parametrize('older', [False, True])
@pytest.mark.parametrize('names', [['samples.txt', 'samples.idx'], ['samples.txt'], ['samples.idx']])
def test_the_samples_files_of_another_order_are_refused(saved, tmp_path, older, names):
    """With both of them, every key would be found, and nearly all in the place of another."""
    path, other = shutil.copytree(saved, tmp_path / 's'), tmp_path / 'other'
    LogitWriter(other, manifest(), SAMPLE_KEYS[::-1]).close()
    for store in (path, other):
        if older:
            make_older(store)
    assert (LogitStore(path).read(0, SAMPLE_KEYS).index == LogitStore(saved).read(0, SAMPLE_KEYS).index).all()
    for name in names:
        shutil.copy(other / name, path / name)
    assert [finding.path.name for finding in problems(path)] == names
    with pytest.raises(StoreError, match='samples.idx is damaged, or does not belong to this store or to samples.txt: '
                                         'copy both|samples files of the store .* are damaged at sample'):
        LogitStore(path).read(0, SAMPLE_KEYS)


def test_right_checksums_on_wrong_records_are_refused(tiny):
    path = tiny / 'view-0000' / 'shard-00001.logits'
    data = bytearray(path.read_bytes())
    data[64:66] = b'\x05\x00'  # class 5 of 5
    crc = struct.unpack('<I', data[60:64])[0]
    data[82:86] = struct.pack('<I', zlib.crc32(bytes(data[64:82]), crc))
    path.write_bytes(data)
    with pytest.raises(StoreError, match='View 0 of the store .*a class out of range'):
        LogitStore(tiny).read(0, [KEYS[2]])


def sealed(path, at, size, change, number):
    """Changes some bytes of a part of a shard that begins ``at``, and makes its checksum right again."""
    data = bytearray(path.read_bytes())
    crc = struct.unpack('<I', data[60:64])[0]
    for place, value in change.items():
        data[at + place] = value
    data[at + size:at + size + 4] = struct.pack('<I', zlib.crc32(bytes(data[at:at + size]), crc + number & 0xFFFFFFFF))
    path.write_bytes(data)


@pytest.mark.parametrize('topk', [5, 200])  # records of up to 255 bytes, and of more
@pytest.mark.parametrize('length', [0, 1, 255])
def test_records_of_wrong_lengths_under_right_checksums_are_refused(tmp_path, topk, length):
    keys = [str(i) for i in range(40)]
    with LogitWriter(tmp_path / 's', dict(topk=topk, num_classes=1000, codec='smallest'), keys) as writer:
        writer.write_shard(writer.unit(0, 0), sparsify(dense(0, range(40), 1000), topk))
    path, wide = tmp_path / 's/view-0000/shard-00000.logits', 2 if topk == 200 else 1
    data = path.read_bytes()
    start = 64 + 32 + 4 * 2 + 4
    size = struct.unpack_from('<I', data, 64 + 32)[0] - 4
    sealed(path, start, size, {3 * wide: length}, 0)
    words = f'{path} has records that no mmtinyvit wrote: the lengths of samples 0 to 31 in view 0 are not those'
    assert [finding.problem.startswith(words) for finding in problems(tmp_path / 's')] == [True]
    with pytest.raises(StoreError, match=words):
        LogitStore(tmp_path / 's').read(0, keys[:3])
    LogitStore(tmp_path / 's').read(0, keys[32:])


def test_a_record_that_is_too_long_under_right_checksums_is_refused(tmp_path):
    keys = [str(i) for i in range(32)]
    with LogitWriter(tmp_path / 's', dict(topk=5, num_classes=1000, codec='smallest'), keys) as writer:
        writer.write_shard(writer.unit(0, 0), sparsify(dense(0, range(32), 1000), 5))
    path = tmp_path / 's/view-0000/shard-00000.logits'
    data = path.read_bytes()
    size, longest = struct.unpack_from('<I', data, 64 + 32)[0] - 4, writer.manifest.record_bytes + 1
    first, second = data[64 + 32 + 8:64 + 32 + 10]
    assert first + second >= longest
    sealed(path, 64 + 32 + 8, size, {0: longest, 1: first + second - longest}, 0)
    assert problems(tmp_path / 's') == []
    with pytest.raises(StoreError, match='a record that no mmtinyvit wrote: that of sample 0 in view 0 is too long'):
        LogitStore(tmp_path / 's').read(0, ['0'])
    assert [bool(finding.problem) for finding in LogitStore(tmp_path / 's').decode()] == [True]


def test_a_block_that_is_too_short_under_right_checksums_is_refused(tmp_path):
    make(tmp_path / 's', codec='smallest')
    path = tmp_path / 's/view-0000/shard-00001.logits'
    data = path.read_bytes()
    crc = struct.unpack('<I', data[60:64])[0]
    table = data[64:96] + struct.pack('<I', 4)
    short = data[:64] + table + struct.pack('<I', zlib.crc32(table, crc - 2)) + struct.pack('<I', zlib.crc32(b'', crc))
    path.write_bytes(short + data[-28:])  # an empty block, and the canaries
    assert ['that no mmtinyvit wrote' in finding.problem for finding in problems(tmp_path / 's')] == [True]
    with pytest.raises(StoreError, match='that no mmtinyvit wrote: the lengths of samples 2 to 2'):
        LogitStore(tmp_path / 's').read(0, KEYS)


@pytest.mark.parametrize('codec', ['exact', 'compact', 'smallest'])
def test_one_line_for_a_shard_however_much_of_it_is_damaged(saved, tmp_path, codec):
    save(tmp_path / 's', views=(0, 2), codec=codec, samples_per_shard=100)
    path = tmp_path / 's/view-0002/shard-00000.logits'
    data = bytearray(path.read_bytes())
    for place in range(200, len(data), 7):
        data[place] ^= 1
    path.write_bytes(data)
    found, = problems(tmp_path / 's')
    assert re.match(rf'{path} \(\d+ more parts of it are damaged too\) is damaged: the checksum of', found.problem)


def test_a_pass_that_decodes_finds_what_checksums_do_not(tiny):
    store = LogitStore(tiny)
    assert [finding.problem for finding in store.decode()] == [None] * 2
    path = tiny / 'view-0000' / 'shard-00001.logits'
    sealed(path, 64, 18, {0: 3, 2: 3}, 0)  # the same class twice
    store = LogitStore(tiny)
    assert problems(tiny) == []
    *others, found = store.decode()
    assert found.path == path and re.match(f'{path} has checksums that are right and records that no mmtinyvit wrote: '
                                           '.*sample 2 the same class twice', found.problem)
    assert not any(finding.problem for finding in others)


TRUNCATED = '''
import os, sys
from mmtinyvit.store import LogitStore, StoreError
store, name, key = LogitStore(sys.argv[1]), sys.argv[2], sys.argv[3]
store.read(0, [key])
os.truncate(os.path.join(sys.argv[1], name), int(sys.argv[4]))
for read in (lambda: store.read(0, [f'{i % 7}/{i}' for i in range(60_000)]), lambda: store.key(59_999),
             lambda: store.canaries(0, 59_999 // store.manifest.samples_per_shard)):
    try:
        read()
    except StoreError as error:
        print(error)
'''


@pytest.mark.parametrize('size', [0, 5000])
@pytest.mark.parametrize('name, refused', [('samples.txt', 2), ('samples.idx', 2), ('view-0000/shard-00000.logits', 2)])
def test_files_that_are_cut_off_while_they_are_open_do_not_end_the_process(tmp_path, name, refused, size):
    """What a process reads of a mapped file behind its end costs it its life."""
    path, keys = tmp_path / 's', [f'{i % 7}/{i}' for i in range(60_000)]
    with LogitWriter(path, dict(topk=1, num_classes=2, samples_per_shard=60_000, codec='exact'), keys) as writer:
        zeros = np.zeros((60_000, 1), np.float32)
        writer.write_shard(writer.unit(0, 0), Record(zeros.astype(int), zeros, zeros[:, 0]), {0: bytes(16)})
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, '-c', TRUNCATED, path, name, keys[0], str(size)], env=env, text=True,
                          capture_output=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.count(f'{path / name} was cut off while it was open: copy it again') == refused


def test_progress_of_checking(tiny):
    shutil.copytree(tiny / 'view-0000', tiny / 'view-0007')
    (tiny / 'README').write_text('a stranger')
    (tiny / 'view-0000' / 'shard-00001.logits.tmp').write_text('left by a killed process')
    findings = list(LogitStore(tiny).verify())
    assert [(finding.done, finding.total) for finding in findings] == [(i, 7) for i in range(1, 8)]
    assert [finding.path.name for finding in findings[:3]] == ['manifest.json', 'samples.txt', 'samples.idx']
    assert [bool(finding.problem) for finding in findings] == [False] * 5 + [True] * 2


def test_unit_is_plain_data():
    assert Unit(1, 2, 3, 4) == Unit(view=1, shard=2, first=3, count=4) and Unit(0, 9, 0, 1) < Unit(1, 0, 0, 1)
