"""Views: augmentation as a pure function of the view's name.

:class:`SeededAugment` replays a view, and :class:`EpochClock` tells it in every worker which one.
"""
import copy
import os.path as osp
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from mmcv.transforms import Compose

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS

from .seeding import ViewName, ViewSeed, rng_scope

__all__ = ['EpochClock', 'SeededAugment', 'find_clocks', 'find_seeded_augment', 'iter_transforms', 'refuse_joined',
           'sample_key', 'set_view']


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
    waiting = [getattr(dataset, 'pipeline', None)]
    while waiting:
        transform = waiting.pop()
        if isinstance(transform, (list, tuple)):
            waiting.extend(reversed(transform))
        elif transform is not None:
            yield transform
            waiting.append(getattr(transform, 'transforms', None))


def find_clocks(dataset: Any) -> list[EpochClock]:
    """The clocks of a dataset's transforms."""
    return [t.clock for t in iter_transforms(dataset) if isinstance(getattr(t, 'clock', None), EpochClock)]


def set_view(dataset: Any, view: int) -> int:
    """Set the clock of every transform of ``dataset`` that has one; returns how many were set."""
    clocks = find_clocks(dataset)
    for clock in clocks:
        clock.view = view
    return len(clocks)


def sample_key(results: dict, key_root: str | None) -> str:
    """What names a sample: its ``sample_key``, or else its path relative to ``key_root``, with forward slashes.

    Raises:
        UserError: Neither is known, or the image does not lie under ``key_root``.
    """
    if 'sample_key' in results:
        return results['sample_key']
    path = results.get('img_path')
    if path is None or key_root is None:
        raise UserError('A sample has no name: give SeededAugment key_root= (the folder that image paths are relative '
                        "to), or a 'sample_key' in the dataset's entries.")
    key = osp.relpath(path, key_root).replace(osp.sep, '/')
    if key.startswith('../'):
        raise UserError(f'{path} does not lie under key_root {key_root}: correct key_root of SeededAugment.')
    return key


@TRANSFORMS.register_module()
class SeededAugment(Compose):
    """Run a list of transforms on random numbers that belong to the view's name.

    The pixels depend only on the image, the list and ``(base_seed, view, key)``: not on the worker, the batch, the
    rank, the epoch's order or what ran before. Usable without a store too.

    Required Keys:

    - img (np.ndarray): ``(H, W, 3)`` uint8, or what the first transform asks for.
    - sample_key (str), or img_path (str) together with ``key_root``.
    - view (int, optional): Overrides both ``view`` and the clock; the saving loop sets it.

    Modified Keys: those of the wrapped transforms.

    Added Keys:

    - base_seed (int), view (int), sample_key (str): The view's name.
    - aug_seed (int): The seed derived from it.
    - view_name (ViewName), view_seed (ViewSeed): Name and seed again, added ahead by :meth:`prepare_batch`.

    Args:
        transforms: mmcv, mmpretrain or ``torchvision/`` transform configs, or callables on the results dict. A
            transform that owns a generator of its own cannot be replayed; saving refuses to start with one.
        base_seed: Names the family of views. Samplers, mixing and stores take it from here.
        view: A fixed view. By default the epoch clock says, which ``SparseLogitDistillHook`` or ``EpochClockHook``
            advances.
        key_root: The folder that keys are relative to, if the dataset's entries have no ``sample_key``.
    """

    def __init__(self, transforms: Sequence[dict | Callable], base_seed: int = 0, view: int | None = None,
                 key_root: str | None = None) -> None:
        self.transforms_cfg = [copy.deepcopy(t) if isinstance(t, dict) else
                               getattr(t, '__qualname__', type(t).__qualname__) for t in transforms]
        super().__init__(list(transforms))
        self.base_seed = base_seed
        self.view = view
        self.key_root = key_root
        self.clock = EpochClock()

    @property
    def current_view(self) -> int:
        """The view of all samples that do not name one themselves."""
        return self.clock.view if self.view is None else self.view

    def name_of(self, results: dict) -> ViewName:
        """The name of the view that :meth:`transform` makes of a sample."""
        view = results['view'] if 'view' in results else self.current_view
        return ViewName(self.base_seed, view, sample_key(results, self.key_root))

    def prepare_batch(self, batch: Sequence[dict]) -> None:
        """Name and seed the views of a batch before any of them is made, for those who look something up by name.

        A sample that has no name yet, because a transform will give it one, is passed over.
        """
        for results in batch:
            with suppress(UserError):
                results['view_name'] = self.name_of(results)
                results['view_seed'] = ViewSeed(results['view_name'].seed)

    def transform(self, results: dict) -> dict:
        name = self.name_of(results)
        prepared = results.get('view_name') == name
        seed = results['view_seed'] if prepared else ViewSeed(name.seed)
        with rng_scope(seed):
            results = super().transform(results)
        if results is None:
            raise UserError(f'A transform inside SeededAugment dropped {name.key} (it returned None): every view of '
                            'the store must exist, so remove that transform.')
        results.update(base_seed=name.base_seed, view=name.view, sample_key=name.key, aug_seed=seed.value)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(transforms={self.transforms}, base_seed={self.base_seed}, view={self.view}, '
                f'key_root={self.key_root!r})')


def find_seeded_augment(dataset: Any) -> SeededAugment:
    """The one ``SeededAugment`` of a dataset's pipeline. Raises :class:`UserError` if there is none, or two."""
    found = [t for t in iter_transforms(dataset) if isinstance(t, SeededAugment)]
    if len(found) != 1:
        refuse_joined(dataset)
        raise UserError(f'The pipeline has {len(found)} SeededAugment transforms where exactly one is needed: wrap the '
                        'random transforms in one mmtinyvit.SeededAugment.')
    return found[0]


def refuse_joined(dataset: Any) -> None:
    """Raise :class:`UserError` if ``dataset`` is a ``ConcatDataset``, or wraps one."""
    if hasattr(dataset, 'dataset'):
        refuse_joined(dataset.dataset)
    if hasattr(dataset, 'datasets'):
        raise UserError(f'{type(dataset).__name__} joins datasets that have a pipeline each, and a store knows one: '
                        'put their images under one folder, links will do, and list them in one index with '
                        '"mmtinyvit index".')
