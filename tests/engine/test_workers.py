"""A process that ends while a worker hands a batch over to it, as by Ctrl-C, is no fault of the worker's."""
import os
import sys
import tempfile
import threading
import time
from multiprocessing import resource_sharer
from multiprocessing.connection import Client

import pytest
from torch.utils.data import DataLoader, Dataset

from mmtinyvit.engine.runner import Runner
from mmtinyvit.engine.workers import quiet_workers


class Abandoned(Dataset):
    """What a worker has on its stderr after something has gone wrong in the thread that hands memory over."""

    def __init__(self, happen) -> None:
        self.happen = happen

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        with tempfile.TemporaryFile('w+') as said:
            os.dup2(said.fileno(), 2)
            sys.stderr = said
            self.happen()
            said.seek(0)
            return said.read()


def leave_while_it_is_sent() -> None:
    """What a process does that asks for the memory of a batch, and is interrupted."""
    shared = resource_sharer.DupFd(0)
    Client(shared._id[0], authkey=resource_sharer.process.current_process().authkey).close()
    sharer = resource_sharer._resource_sharer._thread
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and not os.fstat(2).st_size:  # where it says something, it does at once
        sharer.join(.05)


def fail() -> None:
    thread = threading.Thread(target=lambda: sys.excepthook(ValueError, ValueError('a bug'), None))
    thread.start()
    thread.join()


def start_quietly(worker: int) -> None:
    sys.excepthook(ConnectionResetError, ConnectionResetError('nobody there'), None)


def of_the_runner(dataset: Dataset, **settings) -> DataLoader:
    return Runner.build_dataloader(dict(dataset=dataset, batch_size=1, num_workers=1, sampler=dict(
        type='DefaultSampler', shuffle=False), **settings), seed=3)


def of_torch(dataset: Dataset) -> DataLoader:
    return quiet_workers(DataLoader(dataset, batch_size=1, num_workers=1, worker_init_fn=start_quietly))


def test_without_it_there_is_a_traceback():
    (said, ), = DataLoader(Abandoned(leave_while_it_is_sent), batch_size=1, num_workers=1)
    assert 'EOFError' in said and 'Traceback' in said


@pytest.mark.parametrize('build', [of_the_runner, of_torch])
def test_ends_that_are_not_the_workers_own(build):
    (said, ), = build(Abandoned(leave_while_it_is_sent))
    assert said == ''


@pytest.mark.parametrize('build', [of_the_runner, of_torch])
def test_faults_stay_loud(build):
    (said, ), = build(Abandoned(fail))
    assert 'ValueError: a bug' in said
