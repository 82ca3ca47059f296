"""MapLabel: the labels of the data as classes of the teacher."""
from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import ClassList, list_classes, require_classes
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
        index: The teacher's class for each class of the dataset: a list of numbers; or a dict of names, such as
            ``dict(lab='n02099712')``, for classes that the teacher calls otherwise. The others are found by their own
            names, see :func:`~mmtinyvit.evaluation.class_map.find_classes`.
        target: The teacher's classes in order, which names need: a label layout such as ``'in1k'``, a file, or a list.

    Attributes:
        classes: Names of the teacher's classes, or None.

    Raises:
        UserError: A label or a class is not among them, or there is none.
    """

    def __init__(self, index: Sequence[int] | Mapping[str, str] | None = None,
                 target: ClassList | None = None) -> None:
        self.classes = None if target is None else list_classes(target)
        named = index is None or isinstance(index, Mapping)
        self.names = {str(name): str(its) for name, its in (index or {}).items()} if named else None
        self.index: list[int] | None = list(index) if self.names is None else None
        if self.names is not None and self.classes is None:
            raise UserError("MapLabel finds classes by their names among the teacher's: set target, for example to "
                            "'in1k', or give their numbers as index.")

    def name_classes(self, classes: Sequence[str] | None) -> None:
        """Tell what the classes of the dataset are called. Raises :class:`UserError` if one is not found."""
        if self.names is None or not classes:
            return
        wanted = [self.names.get(name, name) for name in classes]
        self.index = require_classes(
            self.classes, wanted, 'MapLabel has a target of {ours} for images of {theirs}',
            "add what is missing to its index, as in dict(lab='n02099712').", several=bool(self.names)).tolist()

    def transform(self, results: dict) -> dict:
        label = results.get('gt_label')
        if label is None:
            raise UserError(f'MapLabel has nothing to map, since {results.get("img_path", "a sample")} has no label: '
                            'take it out of the pipeline, or list the images with labels.')
        if self.index is None:
            raise UserError('MapLabel was not told what the classes of the images are called: use a dataset of this '
                            'library, such as mmtinyvit.ImageFolder, or give numbers as index.')
        if not 0 <= label < len(self.index):
            raise UserError(f'MapLabel has {len(self.index)} classes, and {results.get("img_path", "a sample")} has '
                            f'the label {label}: list the teacher\'s class for every class of the dataset.')
        results['gt_label'] = self.index[label]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(index={self.index or self.names})'
