"""Repeated augmentation: several views of one image in the same step, each with pixels of its own."""
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from mmtinyvit.errors import UserError
from mmtinyvit.registry import DATA_SAMPLERS, DATASETS

from .view_dataset import load_batch, load_sample
from .views import find_clocks

__all__ = ['RepeatAugSampler', 'RepeatedViews']

ROUNDED_TO = 256  # images, as in the original


@DATASETS.register_module()
class RepeatedViews(Dataset):
    """A dataset whose images come in R copies, each a view of its own, for ``RepeatAugSampler``.

    Index ``i + c * num_images`` is copy c of image i. In the epoch that reads view v, it is view ``v * R + c``:
    replayed like any other, the same on every machine, and another one in each copy and epoch.

    Args:
        dataset: Config or MMEngine dataset with one ``SeededAugment`` in its pipeline.
        num_repeats: R.

    Raises:
        UserError: The dataset has no view that could be set.
    """

    def __init__(self, dataset: Any, num_repeats: int = 3) -> None:
        self.dataset = MMENGINE_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        self.num_repeats = num_repeats
        self.num_images = len(self.dataset)
        clocks = find_clocks(self.dataset)
        if len(clocks) != 1 or not callable(getattr(self.dataset, 'get_data_info', None)):
            raise UserError('RepeatedViews needs a MMEngine BaseDataset with one mmtinyvit.SeededAugment in its '
                            'pipeline; without SeededAugment, RepeatAugSampler takes the dataset as it is.')
        self.clock = clocks[0]

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def __len__(self) -> int:
        return self.num_images * self.num_repeats

    def __getitem__(self, index: int) -> dict:
        return load_sample(self.dataset.pipeline, self._info(index))

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The samples of a batch, the same as one by one, which the loader asks for."""
        return load_batch(self.dataset, [self._info(index) for index in indices])

    def _info(self, index: int) -> dict:
        copy, image = divmod(index, self.num_images)
        info = self.dataset.get_data_info(image)
        info['view'] = self.clock.view * self.num_repeats + copy
        return info


@DATA_SAMPLERS.register_module()
class RepeatAugSampler(DefaultSampler):
    """Repeated augmentation (Hoffer et al., CVPR 2020; Berman et al., MultiGrain, 2019), as DeiT trains with it.

    All processes together read as many images in an epoch as there are, but only a third of them (with three repeats),
    each three times. The copies of an image land in different processes, in the same step.

    In one process, the original repeats nothing: every image is read once. So it is here, unless ``repeat_when_alone``
    is set. mmpretrain's sampler of the same name repeats there too, and does not round the length.

    A dataset with ``SeededAugment`` needs :class:`~mmtinyvit.datasets.RepeatedViews` around it, which gives each copy a
    view of its own.

    Args:
        dataset: Its length is what counts.
        num_repeats: Copies of each image.
        shuffle: Whether to shuffle the images; without it every epoch reads the first third.
        seed: Of the shuffling, equal in all processes; drawn and shared by default.
        repeat_when_alone: Repeat in a single process too; a batch then holds the copies of its images side by side.

    Raises:
        UserError: The settings make no sense, or the copies would be equal.
    """

    def __init__(self, dataset: Sized, num_repeats: int = 3, shuffle: bool = True, seed: int | None = None,
                 repeat_when_alone: bool = False) -> None:
        if num_repeats < 1:
            raise UserError(f'num_repeats={num_repeats} of RepeatAugSampler must be at least 1.')
        super().__init__(dataset, shuffle, seed)
        self.repeats = num_repeats if self.world_size > 1 or repeat_when_alone else 1
        self.views = isinstance(dataset, RepeatedViews)
        if self.views and dataset.num_repeats < self.repeats:
            raise UserError(f'RepeatedViews has {dataset.num_repeats} views of each image, and RepeatAugSampler wants '
                            f'{self.repeats}: give both the same num_repeats.')
        if not self.views and self.repeats > 1 and find_clocks(dataset):
            raise UserError('SeededAugment would give the copies of an image the very same pixels: wrap the dataset in '
                            'mmtinyvit.RepeatedViews.')
        self.num_images = dataset.num_images if self.views else len(dataset)

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            images = torch.randperm(self.num_images, generator=generator)
        else:
            images = torch.arange(self.num_images)
        places = torch.arange(self.rank, len(self) * self.world_size, self.world_size)
        image, copy = images[places // self.repeats % self.num_images], places % self.repeats
        return iter((image + copy * self.num_images if self.views else image).tolist())

    def __len__(self) -> int:
        if self.repeats == 1 and self.world_size == 1:
            return self.num_images
        rounded = self.num_images // ROUNDED_TO * ROUNDED_TO
        return max((rounded or self.num_images) // self.world_size, 1)  # a small dataset is not rounded to nothing
