"""PairedSampler: mixing partners next to each other in every batch."""
import math
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmtinyvit.registry import DATA_SAMPLERS

from .mixing import pairs_of_view

__all__ = ['PairedSampler']


@DATA_SAMPLERS.register_module()
class PairedSampler(Sampler):
    """Yield the samples of an epoch so that positions 2i and 2i + 1 are mixing partners.

    The pairs belong to the view's name and are the same for any batch size and number of processes; the order of the
    pairs is shuffled anew in each epoch. The batch size per process must be even. A pair is never split over
    processes; like MMEngine's ``DefaultSampler``, the first pairs are repeated to give every process as many.

    Args:
        dataset: Its length is what counts.
        base_seed: That of ``SeededAugment`` and of the store.
        shuffle: Whether to shuffle the pairs.
        seed: Of the shuffling, equal in all processes; drawn and shared by default.
    """

    def __init__(self, dataset: Sized, base_seed: int = 0, shuffle: bool = True, seed: int | None = None) -> None:
        self.dataset = dataset
        self.base_seed = base_seed
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0
        self.view: int | None = None  # set by the hook that sets the clock; the epoch's number until then
        self.num_pairs = math.ceil(math.ceil(len(dataset) / 2) / self.world_size)

    def __iter__(self) -> Iterator[int]:
        view = self.epoch if self.view is None else self.view
        pairs = torch.from_numpy(pairs_of_view(len(self.dataset), self.base_seed, view))  # (pairs, 2)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            pairs = pairs[torch.randperm(len(pairs), generator=generator)]
        mine = torch.arange(self.rank, self.num_pairs * self.world_size, self.world_size) % len(pairs)
        return iter(pairs[mine].flatten().tolist())

    def __len__(self) -> int:
        return 2 * self.num_pairs

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch; MMEngine's ``DistSamplerSeedHook`` calls it."""
        self.epoch = epoch
