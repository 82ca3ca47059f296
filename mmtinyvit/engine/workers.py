"""The workers of a loader: what they say if the process that they work for ends before them."""
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

__all__ = ['quiet_workers']


def quiet_workers(loader: DataLoader) -> DataLoader:
    """The loader, whose workers show no traceback where Ctrl-C ends the process that a batch is just handed over to.

    A worker hands over the memory of a batch in a thread of its own, which gives what it meets to ``sys.excepthook``.
    """
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


def _start_worker(then: Callable[[int], Any] | None, worker: int) -> None:
    sys.excepthook = partial(_unless_abandoned, sys.excepthook)
    if then is not None:
        then(worker)


def _unless_abandoned(hook: Callable[..., Any], kind: type[BaseException], *rest: Any) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        hook(kind, *rest)
