"""MapLabel: labels of a few classes among the many of a teacher."""
from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS

__all__ = ['MapLabel']


@TRANSFORMS.register_module()
class MapLabel(BaseTransform):
    """Replace each label by the number that the class has among the teacher's.

    Required Keys:

    - gt_label (int): From 0 to ``len(index) - 1``.

    Modified Keys:

    - gt_label (int): ``index[gt_label]``.

    Args:
        index: The teacher's class for each class of the dataset.

    Raises:
        UserError: A label is not among them.
    """

    def __init__(self, index: Sequence[int]) -> None:
        self.index = list(index)

    def transform(self, results: dict) -> dict:
        label = results['gt_label']
        if not 0 <= label < len(self.index):
            raise UserError(f'MapLabel has {len(self.index)} classes, and {results.get("img_path", "a sample")} has '
                            f'the label {label}: list the teacher\'s class for every class of the dataset.')
        results['gt_label'] = self.index[label]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(index={self.index})'
