"""Where trials run: in this process, in several beside it, or on a Ray cluster."""
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

import torch

__all__ = ['Here', 'OnRay', 'processes']


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
    """

    def __init__(self, ray: Any, gpus: float) -> None:
        self.ray, self.gpus = ray, gpus

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        return self.ray.remote(num_gpus=self.gpus, max_retries=3)(function).remote(*args, **kwargs).future()


def processes(jobs: int) -> ProcessPoolExecutor:
    """Processes that share out the processors, and the GPUs in turn. They end when this one dies, however it does."""
    context, gpus = multiprocessing.get_context('spawn'), torch.cuda.device_count()
    numbers = context.SimpleQueue()
    for number in range(jobs):
        numbers.put(number % gpus if gpus else None)
    threads = max(1, torch.get_num_threads() // jobs)
    return ProcessPoolExecutor(jobs, context, _begin, (numbers, threads))


def _begin(numbers: Any, threads: int) -> None:
    multiprocessing.set_start_method(None, force=True)  # spawn is for this process; loaders choose for theirs
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    gpu = numbers.get()
    if gpu is not None:
        torch.cuda.set_device(gpu)


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
