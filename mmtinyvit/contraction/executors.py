"""Where trials run: in this process, in several beside it, or on a Ray cluster."""
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from mmtinyvit.errors import UserError

__all__ = ['Explain', 'Here', 'OnRay', 'Processes']

Explain = Callable[[Exception], UserError | None]  # the sentence for an error, by its traceback; None for a bug


class Here(Executor):
    """Runs everything at once, in this process and thread."""

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*args, **kwargs))  # what it raises is raised here
        return future


class OnRay(Executor):
    """Runs everything as tasks of a Ray cluster, whose machines all see the files of this one.

    Args:
        ray: The module, connected.
        gpus: Of each task.
        explain: Asked where an error is raised, because no traceback leaves a process.
    """

    def __init__(self, ray: Any, gpus: float, explain: Explain | None = None) -> None:
        self.ray, self.gpus, self.explain = ray, gpus, explain

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()

        def settle(done: Future) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            elif isinstance(error, self.ray.exceptions.RayTaskError):
                future.set_exception(error.cause)
            else:  # a machine or a process has gone, and so have its retries
                future.set_exception(BrokenExecutor(str(error)))

        task = self.ray.remote(num_gpus=self.gpus, max_retries=3)(_explained).remote(self.explain, function, *args,
                                                                                     **kwargs)
        task.future().add_done_callback(settle)
        return future


class Processes(ProcessPoolExecutor):
    """Processes that share out the processors, and the GPUs in turn.

    They end at once, in the midst of their trials, when this one dies, however it does, or when the ``with`` block of
    the executor is left by an exception.

    Args:
        jobs: How many.
        explain: Asked where an error is raised, because no traceback leaves a process.
    """

    def __init__(self, jobs: int, explain: Explain | None = None) -> None:
        self.explain = explain
        context, gpus = multiprocessing.get_context('spawn'), torch.cuda.device_count()
        numbers = context.SimpleQueue()
        for number in range(jobs):
            numbers.put(number % gpus if gpus else None)
        stopped, self.stop = context.Pipe(duplex=False)
        super().__init__(jobs, context, _begin, (numbers, stopped, max(1, torch.get_num_threads() // jobs)))

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        with _ctrl_c_waits():  # it comes to all processes, and those that begin here leave it to the search
            return super().submit(_explained, self.explain, function, *args, **kwargs)

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        if kind is not None:
            self.stop.close()
        return super().__exit__(kind, *rest)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Until the end of the block; for ever in processes that it starts."""
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _explained(explain: Explain | None, function: Callable, *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        fault = None if explain is None or isinstance(error, UserError) else explain(error)
        if fault is None:
            raise
        raise fault from error


def _begin(numbers: Any, stopped: Connection, threads: int) -> None:
    multiprocessing.set_start_method(None, force=True)  # spawn is for this process; loaders choose for theirs
    threading.Thread(target=_end_with_parent, args=(stopped, ), daemon=True).start()
    torch.set_num_threads(threads)
    gpu = numbers.get()
    if gpu is not None:
        torch.cuda.set_device(gpu)


def _end_with_parent(stopped: Connection) -> None:
    wait([multiprocessing.parent_process().sentinel, stopped])
    os._exit(1)
