"""SeededAugment: augmentation as a pure function of the view's name."""
import copy
import os.path as osp
from collections.abc import Callable, Sequence

from mmcv.transforms import BaseTransform, Compose

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS

from .clock import EpochClock
from .pcg64 import seeded_pcg64s
from .seeding import derive_seed, rng_scope
from .view_plan import PLAN, ViewPlan

__all__ = ['SeededAugment', 'sample_key']


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


def _callable_name(transform: Callable) -> str:
    return getattr(transform, '__qualname__', type(transform).__qualname__)


@TRANSFORMS.register_module()
class SeededAugment(BaseTransform):
    """Run a list of transforms on random numbers that belong to the view's name.

    The pixels depend only on the image, the list and ``(base_seed, view, key)``: not on the worker, the batch, the
    rank, the epoch's order or what ran before. Usable without a store too.

    Required Keys:

    - img (np.ndarray): ``(H, W, 3)`` uint8, or what the first transform asks for.
    - sample_key (str), or img_path (str) together with ``key_root``.
    - view (int, optional): Overrides both ``view`` and the clock; the saving loop sets it.

    Modified Keys: those of the wrapped transforms.

    Added Keys:

    - sample_key (str), view (int), aug_seed (int): The name, and the seed derived from it.

    Args:
        transforms: mmcv, mmpretrain or ``torchvision/`` transform configs, or callables on the results dict. A
            transform that owns a generator of its own cannot be replayed; saving refuses to start with one.
        base_seed: Names the family of views.
        view: A fixed view. By default the epoch clock says, which ``SparseLogitDistillHook`` or ``EpochClockHook``
            advances.
        key_root: The folder that keys are relative to, if the dataset's entries have no ``sample_key``.
    """

    def __init__(self,
                 transforms: Sequence[dict | Callable],
                 base_seed: int = 0,
                 view: int | None = None,
                 key_root: str | None = None) -> None:
        self.transforms_cfg = [copy.deepcopy(t) if isinstance(t, dict) else _callable_name(t) for t in transforms]
        self.compose = Compose(list(transforms))
        self.base_seed = base_seed
        self.view = view
        self.key_root = key_root
        self.clock = EpochClock()

    @property
    def transforms(self) -> list:
        """The wrapped transforms, built."""
        return self.compose.transforms

    def _name(self, results: dict) -> tuple[int, int, str]:
        view = results.get('view', self.view)
        return self.base_seed, self.clock.view if view is None else view, sample_key(results, self.key_root)

    def plan(self, batch: Sequence[dict]) -> None:
        """Name and seed of each view of a batch, see :class:`ViewPlan`."""
        names = [self._name(results) for results in batch]
        seeds = [derive_seed(*name) for name in names]
        for results, *plan in zip(batch, names, seeds, seeded_pcg64s(seeds), strict=True):
            results[PLAN] = ViewPlan(*plan)

    def transform(self, results: dict) -> dict:
        name, plan = self._name(results), results.get(PLAN)
        if plan is not None and plan.name == name:
            seed, generator = plan.seed, plan.take_generator()
        else:
            seed, generator = derive_seed(*name), None
        with rng_scope(seed, generator):
            results = self.compose(results)
        if results is None:
            raise UserError(f'A transform inside SeededAugment dropped {name[2]} (it returned None): every view of the '
                            'store must exist, so remove that transform.')
        results.update(sample_key=name[2], view=name[1], aug_seed=seed)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(transforms={self.transforms}, base_seed={self.base_seed}, view={self.view}, '
                f'key_root={self.key_root!r})')
