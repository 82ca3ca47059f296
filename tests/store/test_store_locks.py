"""Claims between processes, without a coordinator."""
import os
import signal
import socket

import pytest
from store_teacher import KEYS, TOPK, WORKERS, contents, dense, manifest, save, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, StoreError


def hold(path, pipe, exclusive):
    """A process that holds the store and its first unit until it is told to end, or killed."""
    with LogitWriter(path, manifest(), KEYS, exclusive) as writer:
        pipe.send(writer.claim(writer.unit(0, 0)))
        pipe.recv()


def attempt(path, pipe, exclusive):
    try:
        with LogitWriter(path, manifest(), KEYS, exclusive) as writer:
            pipe.send(writer.claim(writer.unit(0, 0)))
    except StoreError as error:
        pipe.send(str(error))


def start(target, *args):
    here, there = WORKERS.Pipe()
    process = WORKERS.Process(target=target, args=(args[0], there, *args[1:]), daemon=True)
    process.start()
    answer = here.recv() if here.poll(60) else pytest.fail('no answer from the other process')
    return process, here, answer


def test_a_second_job_is_refused_by_name(tmp_path):
    process, pipe, claimed = start(hold, tmp_path, True)
    assert claimed
    words = f'is being written by process {process.pid} on host {socket.gethostname()}: wait for it'
    with pytest.raises(StoreError, match=words):
        LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    with LogitWriter(tmp_path, manifest(), KEYS) as helper:  # the other ranks of the same job
        assert not helper.claim(helper.unit(0, 0)) and helper.claim(helper.unit(0, 1))
    pipe.send('end')
    process.join()
    with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:
        assert writer.claim(writer.unit(0, 0))
    assert (tmp_path / '.lock').read_bytes() == b''


def hold_joined(path, pipe):
    with LogitWriter(path, manifest(), KEYS, join=True) as writer:
        pipe.send(writer.claim(writer.unit(0, 0)))
        pipe.recv()


def test_jobs_that_join_keep_out_one_that_does_not(tmp_path):
    first, pipe, claimed = start(hold_joined, tmp_path)
    second, other, claimed_too = start(hold_joined, tmp_path)
    assert claimed and not claimed_too
    with LogitWriter(tmp_path, manifest(), KEYS, join=True) as mine, LogitWriter(
            tmp_path, manifest(), KEYS, join=True) as twin:  # also twice in one process
        assert mine.claim(mine.unit(0, 1)) and not twin.claim(twin.unit(0, 1)) and not twin.claim(twin.unit(0, 0))
    first.kill()
    first.join()
    with pytest.raises(StoreError, match=rf'is being written by process \d+ on host {socket.gethostname()}'):
        LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    with LogitWriter(tmp_path, manifest(), KEYS, join=True) as mine:
        with pytest.raises(StoreError, match=f'is being written by process {os.getpid()} on'):
            LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)  # the share is not made into the whole
        assert mine.claim(mine.unit(0, 0))
    other.send('end')
    second.join()
    assert (tmp_path / '.lock').read_bytes() == b''
    with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as whole, LogitWriter(
            tmp_path, manifest(), KEYS, join=True) as helper:  # a job at work may be joined
        assert whole.claim(whole.unit(0, 0)) and helper.claim(helper.unit(0, 1))
    process, pipe, _ = start(hold, tmp_path, True)
    with LogitWriter(tmp_path, manifest(), KEYS, join=True) as helper:
        assert not helper.claim(helper.unit(0, 0)) and helper.claim(helper.unit(0, 1))
    pipe.send('end')
    process.join()


def test_a_killed_process_lets_go_at_once(tmp_path):
    process, _, claimed = start(hold, tmp_path, True)
    assert claimed
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:
        assert writer.claim(writer.unit(0, 0))


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    process, pipe, _ = start(hold, tmp_path, True)
    os.utime(tmp_path / '.lock', (0, 0))
    with pytest.raises(StoreError, match='is being written'):
        LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    os.utime(tmp_path / '.lock', (2**33, 2**33))
    with pytest.raises(StoreError, match='is being written'):
        LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    pipe.send('end')
    process.join()


def test_one_writer_of_a_process_does_not_let_go_for_another(tmp_path):
    """POSIX drops all locks of a process on a file when any of its descriptors closes."""
    first = LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    unit = first.unit(0, 0)
    assert first.claim(unit)
    with LogitWriter(tmp_path, manifest(), KEYS) as second:
        assert not second.claim(unit) and second.claim(second.unit(0, 1))
        with pytest.raises(StoreError, match=f'process {os.getpid()} on'):
            LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    LogitStore(tmp_path).coverage()
    save(tmp_path, views=[1])
    process, _, claimed = start(attempt, tmp_path, False)
    process.join()
    assert claimed is False
    process, _, refusal = start(attempt, tmp_path, True)
    process.join()
    assert 'is being written' in str(refusal)
    first.close()
    process, _, claimed = start(attempt, tmp_path, True)
    process.join()
    assert claimed is True


def test_a_dropped_writer_lets_go(tmp_path):
    writer = LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    del writer
    LogitWriter(tmp_path, manifest(), KEYS, exclusive=True).close()
    with pytest.raises(StoreError, match='topk'):
        LogitWriter(tmp_path, manifest(topk=4), KEYS, exclusive=True)
    LogitWriter(tmp_path, manifest(), KEYS, exclusive=True).close()


def test_a_forked_child_cannot_use_its_parents_claims(tmp_path):
    writer = LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    unit = writer.unit(0, 0)
    assert writer.claim(unit)
    child = os.fork()
    if not child:
        code = 1
        try:
            writer.claim(writer.unit(0, 1))
        except StoreError as error:
            own = LogitWriter(tmp_path, manifest(), KEYS)
            code = 0 if 'own in each process' in str(error) and not own.claim(unit) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with LogitWriter(tmp_path, manifest(), KEYS) as other:
        assert not other.claim(unit)
    writer.close()


def test_what_a_killed_process_held_is_taken_up_by_one_that_waits(tmp_path, saved):
    """Each unit that the outer loop can claim begins a round over all others, as in the saving of logits."""
    process, _, claimed = start(hold, tmp_path / 's', False)
    refused = 0
    with LogitWriter(tmp_path / 's', manifest(), KEYS) as writer:
        for first in writer.missing([0, 2], wait=True):
            if not writer.claim(first):
                refused += 1
                if len(contents(tmp_path / 's')) == 3 + 19:
                    process.kill()
                    process.join()
                continue
            for unit in writer.missing([0, 2]):
                if writer.claim(unit):
                    record = sparsify(dense(unit.view, range(unit.first, unit.first + unit.count)), TOPK)
                    writer.write_shard(unit, record, {unit.first: bytes(range(16))})
    assert claimed and refused
    assert contents(tmp_path / 's') == contents(saved)


def create(path, pipe):
    save(path, views=[0, 2], rank=os.getpid() % 3, world_size=3, wait=True)
    pipe.send(True)


def test_three_processes_create_and_fill_a_store_together(tmp_path, saved):
    pipes, processes = [], []
    for _ in range(3):
        here, there = WORKERS.Pipe()
        processes.append(WORKERS.Process(target=create, args=(tmp_path / 's', there), daemon=True))
        pipes.append(here)
    for process in processes:
        process.start()
    assert all(pipe.poll(60) and pipe.recv() for pipe in pipes)
    assert contents(tmp_path / 's') == contents(saved)
