"""Who is mixed with whom, and how much: Mixup and CutMix as part of a view's name."""
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import DefaultSampler

from mmtinyvit.errors import UserError
from mmtinyvit.registry import DATA_SAMPLERS

from .seeding import derive_seed, seeded_permutation
from .views import find_seeded_augment

__all__ = ['PairMix', 'PairedSampler', 'draw_mix', 'pairs_of_view', 'partners_of_view']


def pairs_of_view(num_samples: int, base_seed: int, view: int) -> np.ndarray:
    """All N samples of a view in pairs, ``(ceil(N / 2), 2)`` int64; with an odd N the last pair is one sample twice."""
    order = seeded_permutation(num_samples, derive_seed(base_seed, view, 'mixing partners'))
    if num_samples % 2:
        order = np.append(order, order[-1])
    return order.reshape(-1, 2)


def partners_of_view(num_samples: int, base_seed: int, view: int) -> np.ndarray:
    """The partner of each of N samples in a view, ``(N,)`` int64; an involution: ``partners[partners[i]] == i``."""
    pairs = pairs_of_view(num_samples, base_seed, view)
    partners = np.empty(num_samples, np.int64)
    partners[pairs] = pairs[:, ::-1]
    return partners


class PairMix(NamedTuple):
    """How two images are mixed.

    Attributes:
        keep: The share that each image keeps of itself, in [0, 1].
        box: CutMix: rows and columns ``(top, bottom, left, right)`` that the two images swap; None for Mixup.
    """
    keep: float
    box: tuple[int, int, int, int] | None


def draw_mix(key_a: str, key_b: str, base_seed: int, view: int, height: int, width: int, mixup_alpha: float,
             cutmix_alpha: float, switch_prob: float) -> PairMix:
    """Draw the coefficient and the box of one pair, the same for both orders of its keys.

    Mixup: Zhang et al., ICLR 2018. CutMix: Yun et al., ICCV 2019, with the share corrected for what the image's edge
    cuts off.

    Args:
        key_a, key_b: Keys of the two samples.
        base_seed, view: As for :func:`~mmtinyvit.datasets.seeding.derive_seed`.
        height, width: Of the images, in pixels.
        mixup_alpha, cutmix_alpha: Both parameters of the Beta distribution; 0 turns Mixup or CutMix off.
        switch_prob: Probability of CutMix where both are on, as in timm.
    """
    first, second = sorted((key_a, key_b))
    seed = derive_seed(base_seed, view, f'mix\n{first}\n{second}')
    rng = np.random.RandomState(np.random.PCG64(seed))  # the stream of RandomState is frozen across NumPy releases
    cut = cutmix_alpha > 0 and (mixup_alpha <= 0 or rng.rand() < switch_prob)
    alpha = cutmix_alpha if cut else mixup_alpha
    keep = float(rng.beta(alpha, alpha)) if alpha > 0 else 1.
    if not cut:
        return PairMix(keep, None)
    cut_height, cut_width = round(height * np.sqrt(1 - keep)), round(width * np.sqrt(1 - keep))
    centre_y, centre_x = rng.randint(height), rng.randint(width)
    top, bottom = np.clip([centre_y - cut_height // 2, centre_y - cut_height // 2 + cut_height], 0, height).tolist()
    left, right = np.clip([centre_x - cut_width // 2, centre_x - cut_width // 2 + cut_width], 0, width).tolist()
    return PairMix(1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


@DATA_SAMPLERS.register_module()
class PairedSampler(DefaultSampler):
    """Yield the samples of an epoch so that positions 2i and 2i + 1 are mixing partners.

    The pairs belong to the view that ``SeededAugment`` replays, and are the same for any batch size and number of
    processes; the order of the pairs is shuffled anew in each epoch. The batch size per process must be even. A pair is
    never split over processes; like MMEngine's ``DefaultSampler``, the first pairs are repeated to give every process
    as many.

    Args:
        dataset: Has one ``SeededAugment`` in its pipeline, which says base seed and view.
        base_seed: Not needed: that of ``SeededAugment``.
        shuffle: Whether to shuffle the pairs.
        seed: Of the shuffling, equal in all processes; drawn and shared by default.

    Raises:
        UserError: ``dataset`` has not exactly one ``SeededAugment``, or that has another ``base_seed``.
    """

    def __init__(self, dataset: Any, base_seed: int | None = None, shuffle: bool = True,
                 seed: int | None = None) -> None:
        self.augment = find_seeded_augment(dataset)
        if base_seed not in (None, self.augment.base_seed):
            raise UserError(f'base_seed={base_seed} of PairedSampler is not the {self.augment.base_seed} of '
                            'SeededAugment: remove it, since the sampler takes that of SeededAugment.')
        super().__init__(dataset, shuffle, seed)
        self.num_samples = 2 * math.ceil(math.ceil(len(dataset) / 2) / self.world_size)  # of this process

    def __iter__(self) -> Iterator[int]:
        view = self.augment.current_view
        pairs = torch.from_numpy(pairs_of_view(len(self.dataset), self.augment.base_seed, view))  # (pairs, 2)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            pairs = pairs[torch.randperm(len(pairs), generator=generator)]
        mine = torch.arange(self.rank, len(self) // 2 * self.world_size, self.world_size) % len(pairs)
        return iter(pairs[mine].flatten().tolist())
