"""The epoch clock: how every DataLoader worker learns which view to replay."""
from collections.abc import Iterator
from typing import Any

import torch

from mmtinyvit.errors import UserError

__all__ = ['EpochClock', 'iter_transforms', 'set_view']


class EpochClock:
    """One integer in shared memory: the view of the current epoch.

    Attributes that are set on a dataset never reach workers that are already running (``persistent_workers``); a
    shared tensor does, under fork, spawn and forkserver alike. Copies of a clock are the same clock.
    """

    def __init__(self) -> None:
        self._view = torch.full((1, ), -1, dtype=torch.int64).share_memory_()

    @property
    def view(self) -> int:
        """The view to replay. Raises :class:`UserError` if nobody has set it."""
        view = int(self._view[0])
        if view < 0:
            raise UserError('SeededAugment does not know which view to replay: add SparseLogitDistillHook (with a '
                            'store) or EpochClockHook (without) to custom_hooks, or give SeededAugment a fixed view=.')
        return view

    @view.setter
    def view(self, view: int) -> None:
        self._view[0] = view

    def __deepcopy__(self, memo: dict) -> 'EpochClock':
        return self


def iter_transforms(dataset: Any) -> Iterator[Any]:
    """Every transform of a dataset, depth first, through dataset wrappers and nested transforms.

    Args:
        dataset: A MMEngine dataset, a wrapper of datasets (``dataset``, ``datasets``) or a torch ``Subset``.
    """
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', [])]:
        if inner is not None:
            yield from iter_transforms(inner)
    yield from _nested(getattr(dataset, 'pipeline', None))


def _nested(transform: Any) -> Iterator[Any]:
    if isinstance(transform, (list, tuple)):
        for each in transform:
            yield from _nested(each)
    elif transform is not None:
        yield transform
        yield from _nested(getattr(transform, 'transforms', None))


def set_view(dataset: Any, view: int) -> int:
    """Set the clock of every transform of ``dataset`` that has one.

    Returns:
        int: How many clocks were set.
    """
    clocks = [t.clock for t in iter_transforms(dataset) if isinstance(getattr(t, 'clock', None), EpochClock)]
    for clock in clocks:
        clock.view = view
    return len(clocks)
