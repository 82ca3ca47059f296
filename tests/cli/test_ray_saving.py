"""Saving by a real Ray cluster of two simulated nodes, one of which is lost in mid-work."""
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from mmengine.runner import Runner
from tiny_flow import contents, saving, teacher, write_photos
from watched_teacher import at_work

from mmtinyvit.store import verify_store
from mmtinyvit.store.admin.copying import copy_store

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120  # seconds


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    return tmp_path_factory.mktemp('watched') / 'calls'


@pytest.fixture(scope='module')
def cluster(watched, storage):
    """Two nodes of one CPU each, which know where the libraries and the bucket are."""
    pytest.importorskip('ray')
    from ray.cluster_utils import Cluster
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', f'{ROOT}{os.pathsep}{ROOT / "tests"}')
        patch.setenv('WATCHED', str(watched))
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('RAY_DEDUP_LOGS', '0')
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        started = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, num_gpus=0, include_dashboard=False))
        started.second = started.add_node(num_cpus=1, num_gpus=0)
        yield started
        started.shutdown()


@pytest.fixture
def save(run_tool, tmp_path, photos, teacher_checkpoint, cluster):
    """Runs the tool on the cluster."""
    def run(*args, root=photos, **loop):
        cfg = saving(root, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint,
                     model=teacher() | dict(type='WatchedClassifier'), **loop)
        cfg.custom_imports = dict(imports=['tiny_flow', 'watched_teacher'])
        cfg.dump(tmp_path / 'save.py')
        return run_tool('save_logits', tmp_path / 'save.py', '--ray', cluster.address, *args)

    return run


def shards(store: Path) -> int:
    return len(list(store.glob('view-*/shard-*.logits')))


def when(what, then) -> threading.Thread:
    """Does ``then`` as soon as ``what`` is true, beside the tool."""
    def watch() -> None:
        end = time.monotonic() + DEADLINE
        while not what() and time.monotonic() < end:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_interrupted_then_a_node_is_lost(save, tmp_path, photos, teacher_checkpoint, cluster, watched):
    """Ctrl-C leaves whole shards, and a lost node costs nothing that was saved: the bytes are those of one process."""
    store, loop = tmp_path / 'store', dict(views=(0, 6), codec='smallest', views_at_once=2)
    import _thread
    when(lambda: shards(store) >= 2, _thread.interrupt_main)
    ended = save('--actors', 1, **loop)
    assert ended.status == 130 and ended.err.splitlines()[-1].startswith('Interrupted: the finished shards are kept')
    kept = contents(store)
    assert 2 <= shards(store) < 24 and not [finding for finding in verify_store(store) if finding.problem]

    watched.unlink()
    watched.with_name('hold').touch()
    losing = when(lambda: len(at_work(watched)) == 2,
                  lambda: cluster.remove_node(cluster.second, allow_graceful=False))
    ended = save('--actors', '1:2', **loop)
    losing.join(DEADLINE)
    watched.with_name('hold').unlink()
    assert ended.status == 0, ended.err
    assert len(at_work(watched)) >= 2 and 'An actor was lost' in ended.out + ended.err

    cfg = saving(photos, tmp_path / 'one', tmp_path / 'work', teacher_checkpoint,
                 model=teacher() | dict(type='WatchedClassifier'), **loop)
    Runner.from_cfg(cfg).test()
    assert kept.items() <= contents(store).items()
    assert contents(store) == contents(tmp_path / 'one')


def test_an_image_that_does_not_decode(save, tmp_path, bucket, watched):
    """Its shards are named, with the reason, after three tries, however many there are; all others are at the URL.

    Meanwhile the only actor is killed, and Ray starts it again, for as long as that takes.
    """
    watched.unlink(missing_ok=True)
    when(lambda: at_work(watched), lambda: os.kill(at_work(watched)[0], signal.SIGKILL))
    root = write_photos(tmp_path / 'photos', 14)
    (root / 'class_1' / 'photo_010.png').write_bytes(b'this is no image')
    url = f'{bucket}/store'
    ended = save('--out', url, '--views', '0:11', '--actors', 1, root=root)
    assert (ended.out + ended.err).count('An actor was lost') == 1
    sentence = ended.sentence
    assert sentence.startswith('11 shards were not saved, all others were (shard 2 of view 0-10: The image ')
    assert sentence.count('photo_010.png cannot be decoded') == 1
    copy_store(url, tmp_path / 'here')
    assert shards(tmp_path / 'here') == 11 * 3


def test_more_than_the_cluster_has(save):
    assert save('--gpus-per-actor', 1, '--actors', 2).sentence == (
        'The Ray cluster has 0 GPUs, and 2 actors with 1 each need 2: start more nodes, or ask for fewer with --actors '
        'or --gpus-per-actor.')
    assert ' CPUs, and 1 actors with 64 each need 64' in save('--cpus-per-actor', 64).sentence


def test_no_cluster(run_tool, tmp_path, photos, teacher_checkpoint):
    saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint).dump(tmp_path / 'save.py')
    sentence = run_tool('save_logits', tmp_path / 'save.py', '--ray', '127.0.0.1:1').sentence
    assert sentence.startswith('There is no Ray cluster at 127.0.0.1:1') and 'ray start --head' in sentence
    assert not (tmp_path / 'store').exists()


def test_without_ray(run_tool, tmp_path, photos, teacher_checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint).dump(tmp_path / 'save.py')
    sentence = run_tool('save_logits', tmp_path / 'save.py', '--ray').sentence
    assert sentence == '--ray needs Ray, which is not installed: pip install "mmtinyvit[ray]".'


def test_ray_shares_out_the_work_itself(run_tool, tmp_path, photos, teacher_checkpoint):
    saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint).dump(tmp_path / 'save.py')
    for flags in (['--join'], ['--part', '0/2']):
        assert 'leave out --join and --part' in run_tool('save_logits', tmp_path / 'save.py', *flags, '--ray').sentence
