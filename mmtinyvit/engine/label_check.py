"""The labels of images: what they are called, and whether they number the classes that a model or a store has."""
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import Runner
from timm.utils import unwrap_model
from torch import nn

from mmtinyvit.datasets.map_label import MapLabel
from mmtinyvit.datasets.view_dataset import find_pipeline
from mmtinyvit.datasets.views import iter_transforms
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import require_classes, spell_matches

__all__ = ['check_labels', 'check_mixed_labels', 'check_outputs', 'label_names', 'map_labels', 'num_outputs',
           'training_outputs']


def label_names(dataset: Any) -> tuple[str, ...] | None:
    """What the labels of a dataset are called as they leave its pipeline; None if that is not known."""
    maps = [transform for transform in iter_transforms(dataset) if isinstance(transform, MapLabel)]
    names = maps[-1].classes if maps else getattr(dataset, 'metainfo', {}).get('classes')
    return tuple(map(str, names)) if names else None


def map_labels(dataset: Any, classes: Sequence[str], images: str, owner: str) -> None:
    """Let the labels of a dataset number ``classes``: where they do not, ``MapLabel`` is put into its pipeline.

    Args:
        dataset: Nothing is done if its labels have no names.
        classes: Names in order.
        images, owner: What to call the dataset and whoever has the classes.

    Raises:
        UserError: A class of the dataset is not among them, or could be several; both lists are named.
    """
    names = label_names(dataset)
    if names is None:
        return
    index = require_classes(
        classes, names, f'{owner} has {{ours}}, and {images} are of {{theirs}}',
        'correct the folders or --classes of the index, or name the classes with mmtinyvit.MapLabel in the pipeline.')
    if (index == np.arange(len(index))).all():
        return
    find_pipeline(dataset).transforms.insert(-1, MapLabel(index.tolist(), classes))
    print_log(f'The labels of {images} are mapped by name to the {len(classes):,} classes that {owner} has: '
              f'{spell_matches(names, index, classes)}', 'current')


def training_outputs(runner: Runner) -> tuple[tuple[str, ...] | None, str]:
    """What the outputs of a model that is trained are called, None if that is not known, and who says so.

    They are the classes of its store or teacher, or else those of the labels that it learns from. Labels that it learns
    from beside a teacher without a store are mapped to the teacher's classes, see :func:`map_labels`.
    """
    model, dataset = unwrap_model(runner.model), runner.train_dataloader.dataset
    if getattr(model, 'reads_record', False):
        store = next((hook.identity(runner) for hook in runner.hooks if hasattr(hook, 'identity')), {})
        return store.get('classes'), "the store's teacher"
    teacher = getattr(model, 'teacher', None) if getattr(model, 'alpha', 0) > 0 else None
    names = getattr(teacher.load(), 'class_names', None) if teacher is not None else None
    if names and model.reads_labels:
        map_labels(dataset, names, 'the images of the training', 'the teacher')
    return (names, 'the teacher') if names else (label_names(dataset), 'the data of the training')


def check_labels(dataset: Any, num_classes: int, classes: Sequence[str] | None = None) -> None:
    """The labels that a student reads must be there, and in the layout of its head, which is the teacher's.

    Args:
        dataset: The training's.
        num_classes: The teacher's classes.
        classes: Their names, if they are known; then labels are mapped, see :func:`map_labels`.

    Raises:
        UserError: There are none, or they are of other classes than the teacher's: by name, or where no names are known
            by their number, unless there is a ``MapLabel``.
    """
    known = len(dataset) and hasattr(dataset, 'get_data_info')
    if known and 'gt_label' not in dataset.get_data_info(0):
        raise UserError('The student learns from labels too, and the images have none: list them with labels, or set '
                        'label_weight=0 (of mmtinyvit.DeiTDistillClassifier, alpha=1).')
    if classes:
        map_labels(dataset, classes, 'the images of the training', 'the teacher')
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


def num_outputs(model: nn.Module) -> int | None:
    """The classes of a classifier, of mmpretrain or timm; None if the model is another kind of network."""
    classes = getattr(getattr(model, 'head', None), 'num_classes', None)
    return classes or getattr(getattr(model, 'model', None), 'num_classes', None)


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
