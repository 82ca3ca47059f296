"""ViewDataset: samples addressed by view and index."""
from typing import Any

from torch.utils.data import Dataset

from mmtinyvit.errors import UserError

__all__ = ['ViewDataset']


class ViewDataset(Dataset):
    """A MMEngine dataset whose items are named ``(view, index)``.

    The view travels with the index through the loader's queue, so a loader may prefetch across views. A sample that
    cannot be loaded is an error that names it; it is never replaced by another one.

    Args:
        dataset: Has ``get_data_info(index)`` and ``pipeline``: any MMEngine ``BaseDataset``.
    """

    def __init__(self, dataset: Any) -> None:
        if not callable(getattr(dataset, 'get_data_info', None)) or not hasattr(dataset, 'pipeline'):
            raise UserError(f'{type(dataset).__name__} has no pipeline of its own: use a MMEngine BaseDataset, such as '
                            'mmtinyvit.IndexedImages or mmpretrain.CustomDataset, without a wrapper.')
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        if len(dataset) == 0:
            raise UserError(f'The dataset {type(dataset).__name__} has no samples: check data_root, split and '
                            'ann_file.')
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, name: tuple[int, int]) -> dict:
        view, index = name
        info = self.dataset.get_data_info(index)
        info['view'] = view
        return self.checked(self.dataset.pipeline(info), index)

    def checked(self, item: dict | None, index: int) -> dict:
        """The item, if the pipeline has not dropped it."""
        if item is None:
            name = self.dataset.get_data_info(index).get('img_path', f'sample {index}')
            raise UserError(f'The pipeline dropped {name}: every view must exist, so remove the transform that returns '
                            'None, or the image.')
        return item
