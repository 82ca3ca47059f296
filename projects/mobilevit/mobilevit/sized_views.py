"""What takes the side of a batch from the sampler to the crop."""
import copy
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from mmtinyvit.datasets import RandomResizedCrop
from mmtinyvit.errors import UserError
from mmtinyvit.registry import DATASETS, TRANSFORMS

__all__ = ['SizedRandomResizedCrop', 'SizedViews']


@DATASETS.register_module()
class SizedViews(Dataset):
    """A dataset whose items are asked for by index and side, as ``MultiScaleBatchSampler`` names them.

    The pipeline finds the side in ``results['side']``. A bare index asks for an image of the usual size.

    Args:
        dataset: Config or MMEngine dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = MMENGINE_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    @property
    def metainfo(self) -> dict:
        """That of the dataset."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, name: int | tuple[int, int]) -> dict:
        if isinstance(name, int):
            info = self.dataset.get_data_info(name)
        else:
            info = self.dataset.get_data_info(name[0]) | dict(side=name[1])
        item = self.dataset.pipeline(info)
        if item is None:
            raise UserError(f"The pipeline dropped {info.get('img_path', f'sample {name}')}: remove the transform that "
                            'returns None, or the image.')
        return item


@TRANSFORMS.register_module()
class SizedRandomResizedCrop(RandomResizedCrop):
    """``mmtinyvit.RandomResizedCrop`` to the side that the batch has. Which part is cut out does not depend on it.

    Required Keys:

    - img (np.ndarray)
    - side (int, optional): Side in pixels; ``scale`` by default.

    Modified Keys: img, img_shape.
    """

    def transform(self, results: dict) -> dict:
        crop = copy.copy(self)
        if 'side' in results:
            crop.scale = (results['side'], results['side'])
        return RandomResizedCrop.transform(crop, results)
