"""merge and reshard from the command line."""
import json
import shutil

from tiny_flow import contents

from mmtinyvit.store import LogitStore


def test_reshard_and_back(run_tool, saved_store, tmp_path):
    said = json.loads(run_tool('logit_store', 'reshard', saved_store, '--samples-per-shard', 5, '--out',
                               tmp_path / 'five', '--json').out)
    assert said['shards'] == 3 and said['written'] == 6 and said['canaries'] == 8
    ended = run_tool('logit_store', 'reshard', tmp_path / 'five', '--samples-per-shard', 4, '--out', tmp_path / 'four')
    assert ended.status == 0 and 'canaries kept' in ended.out
    assert contents(tmp_path / 'four') == contents(saved_store)
    ended = run_tool('logit_store', 'reshard', saved_store, '--samples-per-shard', 5, '--out', saved_store)
    assert 'choose a new folder' in ended.sentence


def test_merge_halves(run_tool, saved_store, tmp_path):
    for name, gone in (('a', 'view-0001'), ('b', 'view-0000')):
        shutil.copytree(saved_store, tmp_path / name)
        shutil.rmtree(tmp_path / name / gone)
    said = json.loads(run_tool('logit_store', 'merge', tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'c',
                               '--json').out)
    assert (said['kind'], said['views'], said['written']) == ('views', [0, 1], 8)
    assert contents(tmp_path / 'c') == contents(saved_store)
    ended = run_tool('logit_store', 'merge', tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'c')
    assert ended.status == 0 and 'views of 2 stores' in ended.out
    assert LogitStore(tmp_path / 'a').views == [0]
    ended = run_tool('logit_store', 'merge', tmp_path / 'a', tmp_path / 'nowhere', '--out', tmp_path / 'd')
    assert 'no store at' in ended.sentence and not (tmp_path / 'd').exists()
