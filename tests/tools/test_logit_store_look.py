"""info, verify, show and repair, as a person and as a machine runs them."""
import json
import shutil

import numpy as np
import pytest
from tiny_flow import CLASSES, TOPK, contents

from mmtinyvit.store import LogitStore


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


def test_verify_and_repair(run_tool, store, saved_store):
    ended = run_tool('logit_store', 'verify', store, '--json')
    assert ended.status == 0 and json.loads(ended.out)['damaged'] == [] and json.loads(ended.out)['files'] == 11
    shard = store / 'view-0001' / 'shard-00002.logits'
    damage(shard)
    ended = run_tool('logit_store', 'verify', store, '--json')
    assert json.loads(ended.out)['damaged'] == [str(shard)]
    assert f'has 1 damaged files: run "python tools/logit_store.py repair {store}"' in ended.sentence

    (store / 'samples.idx').write_bytes(b'')
    assert 'has 2 damaged files' in run_tool('logit_store', 'verify', store).sentence
    planned = json.loads(run_tool('logit_store', 'repair', store, '--json').out)
    assert planned['run_next'] == f'python tools/logit_store.py repair {store} --yes' and shard.exists()
    done = json.loads(run_tool('logit_store', 'repair', store, '--yes', '--json').out)
    assert done['damaged_shards'] == planned['damaged_shards'] == [str(shard)] and not shard.exists()
    assert done['run_next'] == f'python tools/save_logits.py CONFIG CHECKPOINT --out {store} --views 1:2'
    assert contents(store) == {name: data for name, data in contents(saved_store).items()
                               if name != 'view-0001/shard-00002.logits'}
