"""What a student says about the views of a store: records of its outputs, to be compared with the teacher's."""
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmtinyvit.datasets.load_teacher_logits import ignore_stores
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.engine.teacher import Teacher
from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoints import read_checkpoint
from mmtinyvit.models.weights import fill_module
from mmtinyvit.store import Record

from .class_correlation import ClassCorrelation
from .models import plain_config

__all__ = ['build_student', 'correlate_student']

_PART = 1024  # images between two steps of the progress bar


def build_student(cfg: Config, checkpoint: str) -> nn.Module:
    """The classifier of a config with the weights of a checkpoint, in eval mode, on the GPU if there is one.

    Args:
        cfg: A student's or a teacher's, see :func:`~mmtinyvit.apis.models.plain_config`.
        checkpoint: File or URL; it must fill the model.

    Raises:
        UserError: The config is of no classifier, or the checkpoint cannot be read or does not fill it.
    """
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config(plain_config(cfg)).model)
    fill_module(model, read_checkpoint(checkpoint)[0], checkpoint)
    return model.to(get_device()).eval()


def correlate_student(model: nn.Module, dataset: Any, views: Sequence[int], indices: np.ndarray, topk: int,
                      name: str = '', batch_size: int = 64, num_workers: int = 0,
                      watch: Callable[[Sequence], Iterable] = iter,
                      numbers: np.ndarray | None = None) -> ClassCorrelation:
    """The correlation of a student's classes on replayed views.

    Of each view the K most probable classes are kept, as a store keeps them, so that maps of teacher and student differ
    by what the two say and not by how much of it is read.

    Args:
        model: A classifier, see :func:`build_student`.
        dataset: The dataset with its replaying pipeline; a store that it reads is not asked.
        views, indices: Of which views of which samples of the dataset.
        topk: K, at most the number of the model's classes.
        name: What to call the model.
        batch_size, num_workers: Of the loader.
        watch: Wraps the batches of a view, for a progress bar.
        numbers: As for :class:`~mmtinyvit.apis.class_correlation.ClassCorrelation`.

    Raises:
        UserError: An output is no number.
    """
    ignore_stores(dataset)
    student = Teacher(model, dataset)
    num_classes = student.probe(views[0])
    student.rule = RecordRule(min(topk, num_classes))
    items = [(view, indices[start:start + _PART]) for view in views for start in range(0, len(indices), _PART)]
    parts = [student.ask(batch) for view, part in watch(items)
             for _, batch in student.batches(view, part, batch_size, num_workers)]
    record = Record.concat(parts)
    if np.isnan(record.log_prob).any():
        raise UserError(f'The outputs of {name} are no numbers (NaN) for some images: its weights are broken, or its '
                        'training diverged.')
    return ClassCorrelation(record, num_classes, name, numbers=numbers)
