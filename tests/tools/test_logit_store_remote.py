"""The tools on a store in a bucket; and what they say about writing there."""
import json

import pytest
from PIL import Image
from tiny_flow import contents, saving

from mmtinyvit.store import LogitStore


@pytest.fixture
def config(tmp_path, photos, teacher_checkpoint):
    """The config that saved the store."""
    saving(photos, tmp_path / 'new', tmp_path / 'work', teacher_checkpoint).dump(tmp_path / 'save.py')
    return tmp_path / 'save.py'


def said(run_tool, *args):
    ended = run_tool('logit_store', *args, '--json')
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_there_looking_and_back(run_tool, saved_store, bucket, config, tmp_path, storage):
    url = f'{bucket}/store'
    copied = said(run_tool, 'copy', saved_store, url, '--views', '0:1')
    assert (copied['views'], copied['copied'], copied['present']) == ([0], 4, 0)
    ended = run_tool('logit_store', 'copy', saved_store, url)
    assert ended.status == 0 and 'there already' in ended.out and url in ended.out
    storage.taken()
    assert said(run_tool, 'info', url)['complete_views'] == [0, 1]
    assert storage.downloads('') == [f'/{bucket[5:]}/store/manifest.json', f'/{bucket[5:]}', f'/{bucket[5:]}']
    assert said(run_tool, 'verify', url)['files'] == 11
    key = LogitStore(saved_store).key(5)
    assert said(run_tool, 'show', url, key) == said(run_tool, 'show', saved_store, key)
    labels = ('--config', config, '--label-index', 3, 7, 11)
    here, there = (said(run_tool, 'stats', store, *labels) for store in (saved_store, url))
    assert here.pop('path') != there.pop('path') and here == there
    said(run_tool, 'gallery', url, *labels, '--rows', 1, '--out', tmp_path / 'gallery.png')
    with Image.open(tmp_path / 'gallery.png') as picture:
        assert min(picture.size) > 100
    said(run_tool, 'copy', url, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved_store)


def test_damage_there(run_tool, saved_store, bucket, storage):
    url = f'{bucket}/store'
    said(run_tool, 'copy', saved_store, url)
    storage.fail = lambda method, path: ('200 OK', b'x' * 80) if path.endswith('view-0001/shard-00002.logits') else None
    ended = run_tool('logit_store', 'verify', url, '--json')
    assert json.loads(ended.out)['damaged'] == [f'{url}/view-0001/shard-00002.logits']
    assert ended.sentence == f'{url} has 1 damaged files: copy those files again.'


def test_what_the_tools_do_not_do_there(run_tool, saved_store, bucket, config, storage, tmp_path):
    url = f'{bucket}/store'
    words = f'run "mmtinyvit store copy FOLDER {url}"'
    assert words in run_tool('logit_store', 'repair', url).sentence
    assert words in run_tool('logit_store', 'merge', saved_store, saved_store, '--out', url).sentence
    assert 'copy it here first' in run_tool('logit_store', 'reshard', url, '--samples-per-shard', 2, '--out',
                                            tmp_path / 'out').sentence
    assert storage.taken() == []
    assert f'There is no store at {url}' in run_tool('logit_store', 'info', url).sentence
    assert f'There is no store at {url}' in run_tool('logit_store', 'verify', url).sentence


def test_joining_from_the_command_line(run_tool, config, saved_store, tmp_path):
    assert run_tool('save_logits', config, '--join').status == 0
    assert contents(tmp_path / 'new') == contents(saved_store)
    assert run_tool('save_logits', config, '--join').status == 0  # nothing is left to do
