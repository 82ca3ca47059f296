"""The labels of a training that reads a store: they matter only to who reads them."""
from typing import Any

from mmtinyvit.datasets.transforms import MapLabel
from mmtinyvit.datasets.views import iter_transforms
from mmtinyvit.errors import UserError

__all__ = ['check_labels', 'check_mixed_labels', 'check_outputs']


def check_labels(dataset: Any, num_classes: int) -> None:
    """The labels that a student reads must be there, and in the layout of its head, which is the teacher's.

    Args:
        dataset: The training's.
        num_classes: The teacher's classes.

    Raises:
        UserError: There are none, or the images have another number of classes and no ``MapLabel``.
    """
    known = len(dataset) and hasattr(dataset, 'get_data_info')
    if known and 'gt_label' not in dataset.get_data_info(0):
        raise UserError('The student learns from labels too, and the images have none: list them with labels, or set '
                        'label_weight=0 (of mmtinyvit.DeiTDistillClassifier, alpha=1).')
    found = _num_classes(dataset)
    if found not in (None, num_classes):
        raise UserError(f'The student learns from labels too, and the images are of {found} classes, where the teacher '
                        f'has {num_classes}: list the images with --classes as the teacher has them, put '
                        'mmtinyvit.MapLabel into the pipeline, or read no labels.')


def check_mixed_labels(dataset: Any, num_classes: int) -> None:
    """Labels that are mixed, whether anybody reads them or not, must fit into the preprocessor's ``num_classes``.

    Raises:
        UserError: The images are of more classes.
    """
    found = _num_classes(dataset)
    if found is not None and found > num_classes:
        raise UserError(f'The images are of {found} classes, and num_classes={num_classes} of the data preprocessor is '
                        'too small to mix their labels: set num_classes=None there if no label is read, or list the '
                        'images with --labels none.')


def check_outputs(dataset: Any, outputs: int | None) -> None:
    """The images' classes must fit into the outputs of a model; None takes any.

    Raises:
        UserError: There are more classes than outputs.
    """
    found = _num_classes(dataset)
    if None not in (found, outputs) and found > outputs:
        raise UserError(f'The images are of {found} classes, and the model has {outputs} outputs: set num_classes of '
                        f'its head to {found}, or name another data_root.')


def _num_classes(dataset: Any) -> int | None:
    """Classes of the labels as the pipeline gets them; None if that is not known, or they are mapped."""
    names = getattr(dataset, 'metainfo', {}).get('classes')
    mapped = any(isinstance(transform, MapLabel) for transform in iter_transforms(dataset))
    return len(names) if names and not mapped else None
