"""Functions that each live in a process of their own, to be compared as their users run them: alone.

What one process holds changes what another part of it costs. On a CPU, gradients of a second model keep the allocator
from giving memory back, and the first model then takes less of it anew.
"""
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Thread

__all__ = ['Apart', 'apart']

Function = Callable[..., object]
_functions: dict[str, Function] = {}  # what this process runs, by name


class Apart:
    """A process that makes functions of its own and runs them.

    Args:
        pool: The process.
    """

    def __init__(self, pool: ProcessPoolExecutor):
        self.pool = pool

    def make(self, make: Callable[..., dict[str, Function]], *args: object) -> Future[None]:
        """Begin to make functions by name with ``make(*args)``; those made before are forgotten."""
        return self.pool.submit(_make, make, *args)

    def run(self, name: str, measure: Callable[[Function], object] | None = None) -> object:
        """Call a function there, or ``measure`` of it; for example :func:`harness.peak_bytes`."""
        return self.pool.submit(_run, name, measure).result()


@contextmanager
def apart(names: Iterable[str]) -> Iterator[dict[str, Apart]]:
    """Start a process for each name."""
    with ExitStack() as stack:
        context = multiprocessing.get_context('spawn')
        yield {name: Apart(stack.enter_context(ProcessPoolExecutor(1, context, _start))) for name in names}


def _start() -> None:
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A benchmark that is killed leaves nobody behind."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _make(make: Callable[..., dict[str, Function]], *args: object) -> None:
    _functions.clear()
    _functions.update(make(*args))


def _run(name: str, measure: Callable[[Function], object] | None) -> object:
    return measure(_functions[name]) if measure else _functions[name]()
