"""Plans: what is cheaper to do for a whole batch of views than for one after the other.

A loader asks a dataset for all samples of a batch. Between two images, code and data of what is small have left the
processor's caches, and each small thing takes several times as long; so they are done for all, before the first image.
"""
from collections.abc import Callable, Sequence
from typing import Any

from numpy.random import PCG64

from mmtinyvit.store import Record

from .clock import iter_transforms

__all__ = ['ViewPlan', 'load_batch']

PLAN = 'view_plan'


class ViewPlan:
    """What is known of a view before its image is loaded; travels in its results dict.

    Attributes:
        name: ``(base_seed, view, key)``.
        seed: Derived from the name.
        record: What the teacher said about it, arrays of one row; None if nobody has asked yet.
    """
    __slots__ = ('name', 'seed', 'record', '_generator')

    def __init__(self, name: tuple[int, int, str], seed: int, generator: PCG64) -> None:
        self.name, self.seed, self._generator = name, seed, generator
        self.record: Record | None = None

    def take_generator(self) -> PCG64 | None:
        """A generator seeded with the seed, for the first who asks."""
        generator, self._generator = self._generator, None
        return generator


def load_batch(dataset: Any, infos: Sequence[dict], load: Callable[[dict], dict]) -> list[dict]:
    """The samples of a batch: each transform of ``dataset`` that has ``plan(infos)`` is asked first, in order.

    Args:
        dataset: Has a pipeline, or wraps one that has.
        infos: What the pipeline begins with, one dict per sample.
        load: Passes one of them through the pipeline.
    """
    for transform in iter_transforms(dataset):
        if hasattr(transform, 'plan'):
            transform.plan(infos)
    return [load(info) for info in infos]
