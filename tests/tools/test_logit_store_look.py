"""info, verify, show and repair, as a person and as a machine runs them."""
import json
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from tiny_flow import CLASSES, TOPK, contents

from mmtinyvit.store import LogitStore, LogitWriter, Record


@pytest.fixture
def store(saved_store, tmp_path):
    """A copy that may be damaged: two views of 14 samples, four to a shard."""
    return shutil.copytree(saved_store, tmp_path / 'store')


def damage(path):
    data = bytearray(path.read_bytes())
    data[70] ^= 16
    path.write_bytes(data)


def test_info(run_tool, store):
    said = json.loads(run_tool('logit_store', 'info', store, '--json').out)
    opened = LogitStore(store)
    assert said['store_id'] == opened.manifest.store_id.hex() and said['replayable'] is True
    assert (said['num_samples'], said['topk'], said['num_classes']) == (14, TOPK, CLASSES)
    assert said['complete_views'] == [0, 1] and said['views']['1'] == dict(present=4, expected=4)
    assert said['bytes_on_disk'] == sum(file.stat().st_size for file in store.rglob('*') if file.is_file())
    (store / 'view-0001' / 'shard-00002.logits').unlink()
    ended = run_tool('logit_store', 'info', store)
    assert ended.status == 0 and '1 (3 of 4 shards)' in ended.out and 'RandomResizedCrop' in ended.out
    assert 'no store at' in run_tool('logit_store', 'info', store / 'view-0000').sentence


def test_show(run_tool, store):
    key = LogitStore(store).key(5)
    said = json.loads(run_tool('logit_store', 'show', store, key, '--json', '--top', 3).out)
    assert said['key'] == key and said['position'] == 5 and [row['view'] for row in said['views']] == [0, 1]
    record = LogitStore(store).read(1, [key])
    best = record.index[0][np.argsort(-record.log_prob[0])][:3].tolist()
    assert [entry['class'] for entry in said['views'][1]['top']] == best
    assert said['views'][1]['tail_mass'] == pytest.approx(float(record.tail_mass[0]))
    names = store.parent / 'classes.txt'
    names.write_text(''.join(f'class number {i}\n' for i in range(CLASSES)))
    ended = run_tool('logit_store', 'show', store, key, '--classes', names, '--views', '1:2')
    assert ended.status == 0 and f'class number {best[0]}' in ended.out
    names.write_text('one\n')
    assert '1 class names' in run_tool('logit_store', 'show', store, key, '--classes', names).sentence
    assert "no sample 'nobody.png'" in run_tool('logit_store', 'show', store, 'nobody.png').sentence
    assert 'has no view 5' in run_tool('logit_store', 'show', store, key, '--views', '5:6').sentence


def test_a_terminal_gets_what_it_knows_and_obeys_no_key(start_tool, tmp_path, monkeypatch):
    """Names of files hold what they like: letters that the terminal has not, and the escapes that it obeys."""
    keys = ['ß/猫.png', 'a\x1b]0;title\x07\x1b[2J.png', 'plain.png']
    request = dict(topk=1, num_classes=2, fingerprints=dict(records='\x1b[31mred'))
    with LogitWriter(tmp_path / 's', request, keys) as writer:
        zeros = np.zeros((3, 1), np.float32)
        writer.write_shard(writer.unit(0, 0), Record(zeros.astype(int), zeros, zeros[:, 0]))
    monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
    runs = [['info'], *(['show', key] for key in keys), ['show', '\x1b[2J']]
    started = [start_tool('logit_store', run[0], tmp_path / 's', *run[1:], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) for run in runs]
    ended = [(process.communicate(), process.returncode) for process in started]
    assert [status for _, status in ended] == [0, 0, 0, 0, 1], ended
    assert all('\x1b' not in out + err and 'Traceback' not in err for (out, err), _ in ended)
    assert r'\x1b[31mred' in ended[0][0][0] and r'\xdf/\u732b.png' in ended[1][0][0]
    assert r'a\x1b]0;title\x07\x1b[2J.png' in ended[2][0][0]


def test_verify_with_a_pass_that_decodes(run_tool, store):
    ended = run_tool('logit_store', 'verify', store, '--decode')
    assert ended.status == 0 and 'shards decoded' in ended.out
    shard = store / 'view-0001' / 'shard-00003.logits'  # two samples, at the end of which stands their checksum
    data, size = bytearray(shard.read_bytes()), 2 * LogitStore(store).record_bytes
    data[64:64 + size] = bytes(size)
    data[64 + size:68 + size] = struct.pack('<I', zlib.crc32(bytes(size), struct.unpack('<I', data[60:64])[0]))
    shard.write_bytes(data)
    assert run_tool('logit_store', 'verify', store).status == 0
    ended = run_tool('logit_store', 'verify', store, '--decode', '--json')
    assert json.loads(ended.out)['damaged'] == [str(shard)]
    assert 'records that no mmtinyvit wrote' in json.loads(ended.out)['problems'][0] and '1 damaged' in ended.sentence


def test_verify_and_repair(run_tool, store, saved_store):
    ended = run_tool('logit_store', 'verify', store, '--json')
    assert ended.status == 0 and json.loads(ended.out)['damaged'] == [] and json.loads(ended.out)['files'] == 11
    shard = store / 'view-0001' / 'shard-00002.logits'
    damage(shard)
    ended = run_tool('logit_store', 'verify', store, '--json')
    assert json.loads(ended.out)['damaged'] == [str(shard)]
    assert f'has 1 damaged files: run "mmtinyvit store repair {store}"' in ended.sentence

    (store / 'samples.idx').write_bytes(b'')
    assert 'has 2 damaged files' in run_tool('logit_store', 'verify', store).sentence
    planned = json.loads(run_tool('logit_store', 'repair', store, '--json').out)
    assert planned['run_next'] == f'mmtinyvit store repair {store} --yes' and shard.exists()
    done = json.loads(run_tool('logit_store', 'repair', store, '--yes', '--json').out)
    assert done['damaged_shards'] == planned['damaged_shards'] == [str(shard)] and not shard.exists()
    assert done['run_next'] == f'mmtinyvit save CONFIG CHECKPOINT --out {store} --views 1:2'
    assert contents(store) == {name: data for name, data in contents(saved_store).items()
                               if name != 'view-0001/shard-00002.logits'}
