"""Functions that each live in a process of their own, to be compared as their users run them: alone.

What one process holds changes what another part of it costs. On a CPU, gradients of a second model keep the allocator
from giving memory back, and the first model then takes less of it anew.
"""
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Thread

__all__ = ['Apart', 'apart']

Function = Callable[[], object]
_functions: dict[str, Function] = {}  # what this process runs, by name


class Apart:
    """A call of one of the functions in its process.

    Args:
        pool: The process.
        name: The function.
    """

    def __init__(self, pool: ProcessPoolExecutor, name: str):
        self.pool, self.name = pool, name

    def __call__(self) -> object:
        return self.pool.submit(_run, self.name).result()

    def measured(self, measure: Callable[[Function], object]) -> object:
        """What ``measure`` says about the function, in its process; for example :func:`harness.peak_bytes`."""
        return self.pool.submit(_run, self.name, measure).result()


@contextmanager
def apart(make: Callable[..., dict[str, Function]], names: Iterable[str],
          *args: object) -> Iterator[dict[str, dict[str, Apart]]]:
    """Start a process for each name, in which ``make(name, *args)`` gives functions by name.

    Yields:
        For each name, its functions.
    """
    with ExitStack() as stack:
        context = multiprocessing.get_context('spawn')
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, context, _start)) for name in names}
        made = {name: pool.submit(_make, make, name, *args) for name, pool in pools.items()}
        yield {name: {key: Apart(pools[name], key) for key in keys.result()} for name, keys in made.items()}


def _start() -> None:
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A benchmark that is killed leaves nobody behind."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _make(make: Callable[..., dict[str, Function]], *args: object) -> list[str]:
    _functions.update(make(*args))
    return list(_functions)


def _run(name: str, measure: Callable[[Function], object] | None = None) -> object:
    return measure(_functions[name]) if measure else _functions[name]()
