"""Saving in processes of their own: two of them, and ones that are stopped or killed."""
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mmengine.runner import Runner
from processes import in_ranks, train_in_turn
from tiny_flow import contents, distilling, recorded, saving, teacher

from mmtinyvit.store import verify_store

DEADLINE = 120  # seconds


def wait_for(what, process: subprocess.Popen) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)


@pytest.fixture
def config(tmp_path, photos, teacher_checkpoint):
    """Writes the saving config to a file; many views, so that there is time to stop it."""

    def write(**changes) -> Path:
        cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, **changes)
        cfg.dump(tmp_path / 'save.py')
        return tmp_path / 'save.py'

    return write


def test_two_processes_write_the_same_bytes(tmp_path, config, start_tool, photos, teacher_checkpoint):
    """Also with a teacher that has no gradient at all, as which DistributedDataParallel would refuse it."""
    frozen = teacher() | dict(type='FrozenClassifier')
    process = start_tool('save_logits', config(model=frozen), processes=2, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, out
    Runner.from_cfg(saving(photos, tmp_path / 'one', tmp_path / 'work', teacher_checkpoint, model=frozen)).test()
    assert contents(tmp_path / 'store') == contents(tmp_path / 'one')


def heed_interrupts() -> None:
    """A shell's background jobs, and all that they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_stopped_then_killed_then_finished(tmp_path, config, start_tool, photos, teacher_checkpoint, saved_store,
                                           request):
    store, path = tmp_path / 'store', config(workers=1)

    def start(views: str) -> subprocess.Popen:
        process = start_tool('save_logits', path, '--views', views, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True, preexec_fn=heed_interrupts)
        request.addfinalizer(process.kill)
        return process

    def shards(view: int) -> int:
        return len(list(store.glob(f'view-{view:04d}/shard-*')))

    process = start('0:5000')
    wait_for(lambda: shards(0), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C reaches the tool and its workers
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, out + err
    assert 'Traceback' not in out + err
    assert err.splitlines()[-1].startswith('Interrupted: the finished shards are kept')

    kept = contents(store)
    process = start('0:5000')
    wait_for(lambda: len(contents(store)) > len(kept) + 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL
    assert kept.items() <= contents(store).items()
    assert not [finding.problem for finding in verify_store(store) if finding.problem]

    Runner.from_cfg(saving(photos, store, tmp_path / 'work', teacher_checkpoint)).test()
    ours, whole = contents(store), contents(saved_store)
    assert {name: ours[name] for name in whole} == whole


def test_two_processes_distil(tmp_path, photos, saved_store):
    """Under DistributedDataParallel: together they see each view of the store once, and no other pixels."""
    in_ranks(train_in_turn, [distilling(photos, saved_store, tmp_path / 'work', batch_size=4)])
    Runner.from_cfg(distilling(photos, saved_store, tmp_path / 'one', batch_size=7)).train()
    both, one = recorded(tmp_path / 'work'), recorded(tmp_path / 'one')
    assert len(both) == len(one) == 28 and sorted(both) == sorted(one)
    assert (tmp_path / 'work' / 'epoch_2.pth').is_file()
