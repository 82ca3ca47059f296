"""RepeatedViews: several views of one image in the same epoch."""
from collections.abc import Sequence
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from mmtinyvit.errors import UserError
from mmtinyvit.registry import DATASETS

from .clock import EpochClock, iter_transforms
from .view_plan import load_batch

__all__ = ['RepeatedViews']


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
        clocks = [t.clock for t in iter_transforms(self.dataset) if isinstance(getattr(t, 'clock', None), EpochClock)]
        if len(clocks) != 1 or not callable(getattr(self.dataset, 'get_data_info', None)):
            raise UserError('RepeatedViews needs a MMEngine BaseDataset with one mmtinyvit.SeededAugment in its '
                            'pipeline; without SeededAugment, RepeatAugSampler takes the dataset as it is.')
        self.clock = clocks[0]

    @property
    def metainfo(self) -> dict:
        """That of the dataset."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return self.num_images * self.num_repeats

    def __getitem__(self, index: int) -> dict:
        return self._load(self._info(index))

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The samples of a batch, the same as one by one, which the loader asks for."""
        return load_batch(self.dataset, [self._info(index) for index in indices], self._load)

    def _info(self, index: int) -> dict:
        copy, image = divmod(index, self.num_images)
        info = self.dataset.get_data_info(image)
        info['view'] = self.clock.view * self.num_repeats + copy
        return info

    def _load(self, info: dict) -> dict:
        name = info.get('img_path', f'sample {info.get("sample_idx")}')
        item = self.dataset.pipeline(info)
        if item is None:
            raise UserError(f'The pipeline dropped {name}: remove the transform that returns None, or the image.')
        return item
