"""Parts of a saving, each by itself and without a lock: in one folder, in folders of their own, and at a URL."""
import signal
import time
from multiprocessing import get_context

import pytest
from mmengine.runner import Runner
from tiny_flow import contents, saving

from mmtinyvit.cli.runner import build_runner
from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores

DEADLINE = 120  # seconds


@pytest.fixture
def save(tmp_path, photos, teacher_checkpoint):
    def run(store, **loop) -> int:
        return Runner.from_cfg(saving(photos, store, tmp_path / 'work', teacher_checkpoint, **loop)).test()['samples']

    return run


@pytest.mark.parametrize('loop', [dict(), dict(codec='smallest', views=(0, 3), reference_view=1),
                                  dict(codec='smallest', views=(0, 3), views_at_once=2)],
                         ids=['compact', 'smallest', 'views at once'])
def test_parts_in_one_folder(tmp_path, save, loop):
    """Any order; a part may be repeated; none leaves anything to do for the others, or takes anything from them."""
    saved = {part: save(tmp_path / 'parts', part=(part, 3), **loop) for part in (2, 0, 1)}
    assert sum(saved.values()) == save(tmp_path / 'one', **loop)
    assert all(saved.values()) and save(tmp_path / 'parts', part=(0, 3), **loop) == 0
    assert contents(tmp_path / 'parts') == contents(tmp_path / 'one')
    assert not (tmp_path / 'parts' / '.lock').exists()


def test_parts_in_folders_of_their_own(tmp_path, save, saved_store):
    for part in range(2):
        save(tmp_path / str(part), part=(part, 2))
    merge_stores([tmp_path / '0', tmp_path / '1'], tmp_path / 'merged')
    assert contents(tmp_path / 'merged') == contents(saved_store)


def test_more_parts_than_shards(tmp_path, save, saved_store):
    for part in range(10):
        save(tmp_path / 'parts', part=(part, 10))
    assert contents(tmp_path / 'parts') == contents(saved_store)


def test_at_a_url(tmp_path, save, bucket, saved_store):
    """One job; and going on with what another has begun, which is held to its canaries."""
    url = f'{bucket}/store'
    assert save(url, views=(1, 2)) == 14
    assert save(url) == 14
    assert save(url) == 0
    copy_store(url, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved_store)
    with pytest.raises(UserError, match='is another one than asked for .*codec: "compact" != "exact"'):
        save(url, codec='exact')


def test_killed_at_a_url(tmp_path, save, bucket, storage, photos, teacher_checkpoint, request):
    """Whole shards and nothing else are there; the same command does the rest."""
    url, views = f'{bucket}/store', (0, 100)

    def work() -> None:
        build_runner(saving(photos, url, tmp_path / 'work', teacher_checkpoint, views=views), TeacherRunner).test()

    process = get_context('fork').Process(target=work, daemon=True)
    process.start()
    request.addfinalizer(process.kill)
    end = time.monotonic() + DEADLINE
    while sum(method == 'PUT' and path.endswith('.logits') for method, path in storage.requests) < 5:
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.join(DEADLINE)
    assert process.exitcode == -signal.SIGKILL
    there = sum(present for present, _ in LogitStore(url).coverage().values())
    assert 4 <= there < 400 and not [finding for finding in verify_store(url) if finding.problem]
    save(url, views=(0, 3))
    copy_store(url, tmp_path / 'back', views=[0, 1, 2])
    save(tmp_path / 'one', views=(0, 3))
    assert contents(tmp_path / 'back') == contents(tmp_path / 'one')


@pytest.mark.parametrize('loop, words', [
    (dict(part=(2, 2)), 'part=2/2 does not exist: N parts are numbered from 0 to N - 1'),
    (dict(part=(0, 2), join=True), 'join=True shares the work through locks'),
    (dict(part=(0, 2), codec='smallest', views=(1, 2)), 'relative to view 0, which is not complete'),
])
def test_impossible_parts(tmp_path, save, loop, words):
    with pytest.raises(UserError, match=words):
        save(tmp_path / 'store', **loop)
    assert not (tmp_path / 'store').exists()


def test_places_that_cannot_be_written_to(save, bucket, storage):
    with pytest.raises(UserError, match='There is no place for s3://no-such-bucket/store/manifest.json'):
        save('s3://no-such-bucket/store')
    denied = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
    storage.fail = lambda method, path: ('403 Forbidden', denied) if method == 'PUT' else None
    with pytest.raises(UserError, match=f'It is not allowed to write {bucket}/store/manifest.json with the cred'):
        save(f'{bucket}/store')
    with pytest.raises(UserError, match='join=True shares the work through locks in a folder'):
        save(f'{bucket}/store', join=True)
