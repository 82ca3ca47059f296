"""Claims between processes, without a coordinator."""
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct

import numpy as np
import pytest
from store_teacher import KEYS, TOPK, WORKERS, contents, dense, manifest, save, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, StoreError
from mmtinyvit.store.pending import PendingRecords


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
    """POSIX drops all record locks of a process on a file when any of its descriptors closes."""
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


def test_closing_the_lock_file_elsewhere_in_the_process_lets_nobody_in(tmp_path):
    with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:
        assert writer.claim(writer.unit(0, 0))
        with open(tmp_path / '.lock', 'r+b'):
            pass
        for exclusive, expected in ((True, 'is being written'), (False, 'False')):
            process, _, answer = start(attempt, tmp_path, exclusive)
            process.join()
            assert expected in str(answer)


def hold_and_leave_a_child(path, pipe):
    """Is killed while a process that it forked, such as the worker of a loader, lives on."""
    writer = LogitWriter(path, manifest(), KEYS, exclusive=True)
    writer.claim(writer.unit(0, 0))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        writer.close(), os.write(write, b'x'), signal.pause()
    os.read(read, 1)
    pipe.send(child)
    pipe.recv()


def test_a_forked_child_neither_keeps_nor_drops_the_locks_of_its_parent(tmp_path):
    process, _, child = start(hold_and_leave_a_child, tmp_path)
    try:
        with pytest.raises(StoreError, match='is being written'):
            LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
        process.kill()
        process.join()
        os.kill(child, 0)
        with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:
            assert writer.claim(writer.unit(0, 0))
    finally:
        os.kill(child, signal.SIGKILL)


def change_kernel(monkeypatch, answer):
    """Has ``answer(command, kind)`` say how locks go, which may call the real thing by returning None."""
    real = fcntl.fcntl

    def patched(fd, command, request=0):
        if command in (fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW, fcntl.F_OFD_GETLK):
            code = answer(command, struct.unpack_from('h', request)[0])
            if code == 0:
                return request
            if code:
                raise OSError(code, os.strerror(code))
        return real(fd, command, request)

    monkeypatch.setattr(fcntl, 'fcntl', patched)


def test_a_kernel_with_record_locks_alone(tmp_path, monkeypatch):
    """They and the others keep each other out: processes of two kernels, or two versions of this library."""
    with monkeypatch.context() as patch:
        change_kernel(patch, lambda command, kind: errno.EINVAL)
        with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:
            assert writer.claim(writer.unit(0, 0))
            process, _, answer = start(attempt, tmp_path, True)
            process.join()
            assert 'is being written' in answer
            process, _, answer = start(attempt, tmp_path, False)
            process.join()
            assert answer is False
    process, pipe, _ = start(hold, tmp_path, True)
    change_kernel(monkeypatch, lambda command, kind: errno.EINVAL)
    with pytest.raises(StoreError, match='is being written'):
        LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    pipe.send('end')
    process.join()


@pytest.mark.parametrize('code, words', [(0, 'grants the same lock twice'), (errno.ENOLCK, 'has no locks')])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, code, words):
    change_kernel(monkeypatch, lambda command, kind: code)
    with pytest.raises(StoreError, match=f'The file system of the store {tmp_path} {words}.*write the store on one'):
        LogitWriter(tmp_path, manifest(), KEYS)
    assert not (tmp_path / 'manifest.json').exists()


def test_a_lock_that_cannot_be_given_back_is_a_sentence(tmp_path, monkeypatch):
    writer = LogitWriter(tmp_path, manifest(), KEYS, exclusive=True)
    unit = writer.unit(0, 0)
    writer.claim(unit)
    with monkeypatch.context() as patch:
        change_kernel(patch, lambda command, kind: errno.EIO if kind == fcntl.F_UNLCK else None)
        with pytest.raises(StoreError, match='could not be accessed.*Input/output error'):
            writer.release(unit)
        with pytest.raises(StoreError, match='could not be accessed.*Input/output error'):
            writer.close()
    with LogitWriter(tmp_path, manifest(), KEYS, exclusive=True) as writer:  # closing the file gave it back
        assert writer.claim(unit)


def test_a_store_that_is_deleted_stops_its_job(tmp_path, saved):
    path = tmp_path / 's'
    record = sparsify(dense(0, range(16)), TOPK)
    with LogitWriter(path, manifest(), KEYS, exclusive=True) as writer:
        claimed, pending = writer.unit(0, 0), PendingRecords(path, writer.manifest.store_id, 1, TOPK, 16)
        writer.claim(claimed)
        pending.add(np.arange(16), record, {})
        shutil.rmtree(path)
        words = f'The store {path} was deleted or moved while it was being written: start again'
        with pytest.raises(StoreError, match=words):
            next(iter(writer.claim(unit) for unit in writer.missing([0, 2], wait=True)))
        with pytest.raises(StoreError, match=words):
            writer.write_shard(claimed, record)
        with pytest.raises(StoreError, match=f'The store {path} is gone'):
            pending.flush()
        assert not path.exists()
        save(path, views=[0, 2])  # another job has begun a new one in its place
        with pytest.raises(StoreError, match=words):
            writer.write_shard(claimed, record)
        with LogitWriter(path, manifest(), KEYS, exclusive=True):
            process, _, refusal = start(attempt, path, True)
            process.join()
            writer.close()
            assert 'is being written' in str(refusal)
            process, _, refusal = start(attempt, path, True)
            process.join()
            assert 'is being written' in str(refusal)
    assert contents(path) == contents(saved)


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
