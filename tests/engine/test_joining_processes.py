"""Saving by processes that come and go: who dies leaves its shards to the others, and nobody waits for the dead."""
import os
import re
import signal
import socket
import time
from contextlib import suppress
from multiprocessing import Process, active_children, get_context
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_flow import contents, saving

from mmtinyvit.cli.runner import build_runner
from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.store import LogitStore, LogitWriter, StoreError

DEADLINE = 120  # seconds
VIEWS = (0, 6)
FIRST_UNIT = 1024  # the byte that stands for unit 0
LOCKED = re.compile(r'^lock:.* WRITE .* (\d+) (\d+)$', re.MULTILINE)  # first and last byte


def holders(store) -> dict[int, set[int]]:
    """The units that processes of this one hold, by process, as the kernel has it."""
    found: dict[int, set[int]] = {}
    for process in active_children():
        for file in Path(f'/proc/{process.pid}/fd').glob('*'):
            with suppress(OSError):  # closed meanwhile
                if os.readlink(file) == str(store / '.lock'):
                    for first, last in LOCKED.findall((file.parents[1] / 'fdinfo' / file.name).read_text()):
                        units = set(range(int(first), int(last) + 1)) - set(range(FIRST_UNIT))
                        found.setdefault(process.pid, set()).update(units)
    return {pid: units for pid, units in found.items() if units}


def work(cfg: Config, environment: dict[str, str]) -> None:
    """A process that saves."""
    os.environ.update(environment)
    build_runner(cfg, TeacherRunner).test()


@pytest.fixture
def start(tmp_path, photos, teacher_checkpoint, request):
    """Starts one; forked, since the imports alone take seconds."""
    def start(environment: dict[str, str] | None = None, **loop) -> Process:
        cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, views=VIEWS, **loop)
        cfg.launcher = 'pytorch' if environment else 'none'
        process = get_context('fork').Process(target=work, args=(cfg, environment or {}), daemon=True)
        process.start()
        request.addfinalizer(process.kill)
        return process

    return start


@pytest.fixture(scope='module')
def at_once(tmp_path_factory, photos, teacher_checkpoint):
    """What one process saves that nobody stops."""
    folder = tmp_path_factory.mktemp('at_once')
    Runner.from_cfg(saving(photos, folder / 'store', folder / 'work', teacher_checkpoint, views=VIEWS)).test()
    return contents(folder / 'store')


def wait_for(what, *processes: Process) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end and all(process.is_alive() for process in processes)
        time.sleep(0.005)


def freeze_in_mid_shard(store, process: Process) -> set[int]:
    """Stops a process while it holds units; the units."""
    def frozen() -> bool:
        if process.pid not in holders(store):
            return False
        os.kill(process.pid, signal.SIGSTOP)
        if process.pid in holders(store):
            return True
        os.kill(process.pid, signal.SIGCONT)
        return False

    wait_for(frozen, process)
    return holders(store)[process.pid]


def test_workers_that_come_and_go(tmp_path, start, at_once):
    store = tmp_path / 'store'
    dying = start(join=True)
    left = freeze_in_mid_shard(store, dying)
    resting = start(join=True)
    frozen = left | freeze_in_mid_shard(store, resting)
    late = start(join=True)
    wait_for(lambda: len(list(store.glob('view-*/shard-*.logits'))) == 4 * VIEWS[1] - len(frozen), late)
    with pytest.raises(StoreError, match='is being written by process'):  # a job that does not join stays out
        LogitWriter(store, LogitStore(store).manifest, store / 'samples.txt', exclusive=True)
    assert late.is_alive()  # it waits for the shards of the others, in case they die
    dying.kill()
    wait_for(lambda: set(holders(store)) <= {resting.pid, late.pid})
    os.kill(resting.pid, signal.SIGCONT)
    for process in (resting, late, dying):
        process.join(DEADLINE)
    assert (resting.exitcode, late.exitcode, dying.exitcode) == (0, 0, -signal.SIGKILL)
    assert contents(store) == at_once
    assert (store / '.lock').read_bytes() == b''


@pytest.mark.parametrize('dies', [0, 1])
def test_a_rank_that_dies_holds_up_nobody(tmp_path, start, at_once, dies):
    """Joined by gloo, and with nobody that ends the others, as torchrun would."""
    store = tmp_path / 'store'
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    ranks = [start(dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=port)) for rank in range(2)]
    freeze_in_mid_shard(store, ranks[dies])
    ranks[dies].kill()
    ranks[1 - dies].join(DEADLINE)
    assert ranks[1 - dies].exitcode == 0
    assert contents(store) == at_once
