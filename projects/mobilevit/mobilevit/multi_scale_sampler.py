"""MultiScaleBatchSampler: batches of images of one side each, small batches of large images and large ones of small."""
from collections.abc import Iterator, Sequence
from itertools import cycle

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmtinyvit.datasets import derive_seed
from mmtinyvit.datasets.seeding import seeded_permutation
from mmtinyvit.errors import UserError
from mmtinyvit.registry import DATA_SAMPLERS

__all__ = ['MultiScaleBatchSampler', 'epoch_sides']


def epoch_sides(sides: Sequence[int], base_seed: int, epoch: int) -> list[int]:
    """The side of each batch of an epoch, in turn: a shuffle that depends on nothing but the arguments.

    Args:
        sides: One per batch, in any order.
        base_seed: Names a family of shuffles.
        epoch: The epoch.
    """
    return [sides[i] for i in seeded_permutation(len(sides), derive_seed(base_seed, epoch, 'side of each batch'))]


@DATA_SAMPLERS.register_module()
class MultiScaleBatchSampler(Sampler):
    """Batches for MobileViT (https://arxiv.org/abs/2110.02178): one side for a batch, about as many pixels in each.

    The side of a batch belongs to its name, which is the base seed, the epoch and the number of the step: it is the
    same in every process, in every run, and after resuming. So are the images of a step over all processes, if the
    batches of all of them together are as large, and the sampler deals its images out in turn as MMEngine's
    ``DefaultSampler`` does.

    Every epoch has as many batches of each side, in another order. So all epochs have as many steps, which MMEngine's
    schedules by iteration rely on; to fill the last batch, the first images of the epoch come once more.

    The items are pairs of index and side, for :class:`~.SizedViews`.

    Args:
        sampler: Indices of this process; knows its ``epoch``, as ``DefaultSampler`` does.
        batch_size: Images per process at ``base_side``.
        sides: Sides to choose from, in pixels.
        base_side: The side that ``batch_size`` is meant for.
        multiple_of: The images of a step over all processes are rounded down to a multiple of this, which the number
            of processes must divide.
        base_seed: Names the family of sides.

    Raises:
        UserError: The processes do not divide ``multiple_of``, or the sampler knows no epochs.
    """

    def __init__(self,
                 sampler: Sampler,
                 batch_size: int,
                 sides: Sequence[int] = (160, 192, 256, 288, 320),
                 base_side: int = 256,
                 multiple_of: int = 8,
                 base_seed: int = 0) -> None:
        _, world_size = get_dist_info()
        if multiple_of % world_size:
            raise UserError(f'{world_size} processes cannot share steps of multiples of {multiple_of} images: set '
                            'multiple_of of MultiScaleBatchSampler to a multiple of the number of processes.')
        if not hasattr(sampler, 'epoch'):
            raise UserError(f'MultiScaleBatchSampler needs a sampler that knows its epoch, as DefaultSampler does, but '
                            f'{type(sampler).__name__} does not.')
        self.sampler = sampler
        self.base_seed = base_seed
        self.images = {side: max(batch_size * world_size * base_side**2 // side**2 // multiple_of, 1) *
                       multiple_of // world_size for side in sides}  # of this process
        self.sides: list[int] = []
        num_images = 0
        for side in cycle(sides):
            if num_images >= len(sampler):
                break
            self.sides.append(side)
            num_images += self.images[side]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        indices = cycle(list(self.sampler))
        for side in epoch_sides(self.sides, self.base_seed, self.sampler.epoch):
            yield [(next(indices), side) for _ in range(self.images[side])]

    def __len__(self) -> int:
        return len(self.sides)
