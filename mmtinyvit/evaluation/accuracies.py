"""Accuracies on ImageNet of heads with any label layout: against its labels, and against the ReaL ones."""
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..errors import UserError
from ..registry import METRICS
from .class_map import (
    LAYOUTS,
    ClassList,
    find_classes,
    is_synset,
    list_classes,
    match_classes,
    require_classes,
    require_same_classes,
    spell_classes,
    to_synsets,
)

__all__ = ['MappedAccuracy', 'RealAccuracy', 'real_labels']


@METRICS.register_module()
class MappedAccuracy(BaseMetric):
    """Accuracy after the scores of a head are mapped to the classes of the data; by default from ImageNet-21K.

    Only the mapped classes compete. A class that the head does not have is never predicted (the original gives it the
    score 0 among logits, which may win; it concerns 50 of 50,000 images).

    Args:
        num_classes: Size of the head, or its layout, see :func:`.synsets`.
        index: ``(classes of the data,)``, the head's class for each class of the data, -1 for none; or a dict of names,
            for classes that the head calls otherwise. By default they are found by synset or name.
        topk: The k of each accuracy: a label among the k best classes counts as right.
        target: The classes of the data: a layout, or names. By default those that the dataset names, or ``'in1k'`` if
            it names none.
        **kwargs: As for ``mmengine.evaluator.BaseMetric``; results are ``accuracy/top1`` and so on, in percent.

    Raises:
        UserError: A layout is not known, the data's classes are not the target's or not to be found in the head, or
            ``topk`` is not between 1 and their number.
    """
    default_prefix = 'accuracy'

    def __init__(self, num_classes: int | str = 21841, index: Sequence[int] | Mapping[str, str] | None = None,
                 topk: int | Sequence[int] = (1, 5), target: ClassList | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.named = index is None or isinstance(index, Mapping)
        self.head = list_classes(num_classes) if self.named or not isinstance(num_classes, int) else None
        self.num_classes = num_classes if self.head is None else len(self.head)
        self.names = {str(name): str(its) for name, its in (index or {}).items()} if self.named else {}
        self.target = None if target is None else list_classes(target)
        self.topk = (topk, ) if isinstance(topk, int) else tuple(topk)
        self._index = self._absent = None
        if not self.named:
            self._use(index)
        elif self.target or find_classes(self.head, 'in1k').max() >= 0:
            self._use(self._find(self.target or list_classes('in1k')))

    @property
    def dataset_meta(self) -> dict | None:
        """What the dataset says about itself; the runner sets it, and its class names are taken from it."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        classes = tuple(map(str, (meta or {}).get('classes') or ()))
        if classes:
            self.name_classes(classes)

    def name_classes(self, classes: Sequence[str]) -> None:
        """Tell what the data's classes are called. Raises :class:`UserError` if the head does not have them."""
        if not self.named:
            if len(classes) != len(self._index):
                raise UserError(f'index of {type(self).__name__} is for {len(self._index)} classes, and the images are '
                                f'of {spell_classes(classes)}: give the class of the head for each of them, or names.')
            return
        if self.target is not None:
            require_classes(self.target, classes, f'The target of {type(self).__name__} has {{ours}}, and the images '
                            'are of {theirs}', 'correct target, or leave it out.')
        self._use(self._find(classes))

    def _find(self, classes: Sequence[str]) -> np.ndarray:
        """The head's class for each class of the data; -1 for a synset that it does not have."""
        wanted = to_synsets([self.names.get(name, name) for name in classes])
        require_classes(self.head, [name for name in wanted if not is_synset(name)],
                        f'{type(self).__name__} has a head of {{ours}} and images of {{theirs}}',
                        "say which they are with index, as in dict(lab='n02099712').")
        return match_classes(self.head, wanted)

    def _use(self, index: Sequence[int]) -> None:
        index = torch.as_tensor(index)
        self._index, self._absent = index.clamp(min=0), index < 0
        if not 1 <= min(self.topk) <= max(self.topk) <= len(index):
            raise UserError(f'{type(self).__name__} cannot tell the top {self.topk} of {len(index)} classes: set topk '
                            'to numbers from 1 to the number of classes.')

    def check_head(self, classes: Sequence[str] | None, owner: str) -> None:
        """Compare what the outputs are called by ``owner`` with the layout of the head. Raises :class:`UserError`."""
        if classes and self.head:
            require_same_classes(self.head, classes, f'num_classes of {type(self).__name__} means {{ours}}, and '
                                 f'{owner} has {{theirs}}', 'set it to the layout of the head.')

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Judge the ``pred_score`` ``(num_classes,)`` of a batch. Raises :class:`UserError` if it has another size."""
        for sample in data_samples:
            labels = self.labels_of(sample)
            best = self.mapped(sample['pred_score']).topk(max(self.topk))
            right = torch.isin(best.indices, labels) & (best.values > -torch.inf)
            self.results.append([right[:k].any().item() for k in self.topk] if len(labels) else [])

    def mapped(self, score: Tensor) -> Tensor:
        """``(classes of the data,)``, the scores of a head's classes ``(num_classes,)`` for the data's."""
        if score.numel() != self.num_classes:
            raise UserError(f'The model scores {score.numel()} classes, but {type(self).__name__} was told '
                            f'{self.num_classes}: set its num_classes to the layout of the head '
                            f'({", ".join(LAYOUTS)}), or use Accuracy for a head without a map.')
        if self._index is None:
            raise UserError(f'{type(self).__name__} does not know the classes of the images, which have no names: set '
                            'target.')
        return score.cpu()[self._index].masked_fill(self._absent, -torch.inf)

    def labels_of(self, sample: dict) -> Tensor:
        """The classes of the data that are right for a sample; none leaves it out."""
        if 'gt_label' not in sample:
            raise UserError(f'{type(self).__name__} compares with labels, and an image of the test has none: test on '
                            'labelled images.')
        return sample['gt_label'].cpu()

    def compute_metrics(self, results: list[list[bool]]) -> dict[str, float]:
        """Mean over all samples that have a label, in percent. The others are empty lists: MMEngine drops None."""
        judged = [each for each in results if each]
        if not judged:
            raise UserError(f'None of the {len(results)} images has a label that {type(self).__name__} could compare '
                            'with: test on more images.')
        means = 100 * np.mean(judged, 0)
        return {f'top{k}': mean.item() for k, mean in zip(self.topk, means, strict=True)}


@cache
def real_labels() -> tuple[tuple[int, ...], ...]:
    """The ReaL labels of the 50,000 validation images of ImageNet-1K, by the number in the file's name less one.

    From "Are we done with ImageNet?" (https://arxiv.org/abs/2006.07159); timm ships the file ``real.json`` of
    https://github.com/google-research/reassessed-imagenet (Apache 2.0). An image may have several labels, or none.
    """
    text = files('timm.data').joinpath('_info', 'imagenet_real_labels.json').read_text()
    return tuple(map(tuple, json.loads(text)))


@METRICS.register_module()
class RealAccuracy(MappedAccuracy):
    """Accuracy on the validation images of ImageNet-1K against the ReaL labels, see :func:`real_labels`.

    A class counts as right if it is any of the image's labels. Images without labels are left out. The images are
    known by their names, ``ILSVRC2012_val_00000001.JPEG``, so ``PackInputs`` must pass ``img_path`` on, as it does by
    default.

    Args:
        num_classes: Size of the head, or the name of its layout; a large head is mapped by synset.
        topk, **kwargs: As for :class:`MappedAccuracy`; results are ``real/top1`` and so on.
    """
    default_prefix = 'real'

    def __init__(self, num_classes: int | str = 'in1k', topk: int | Sequence[int] = (1, 5), **kwargs) -> None:
        super().__init__(num_classes, topk=topk, target='in1k', **kwargs)

    def name_classes(self, classes: Sequence[str]) -> None:
        """Nothing: the labels are not the dataset's."""

    def labels_of(self, sample: dict) -> Tensor:
        """The ReaL labels of the image. Raises :class:`UserError` if it is not of ImageNet's validation set."""
        path = sample.get('img_path', '')
        found = re.search(r'ILSVRC2012_val_(\d{8})', os.path.basename(path))
        number = int(found[1]) if found else 0
        if not 1 <= number <= len(real_labels()):
            raise UserError(f'{path or "An image without img_path"} has no ReaL label: RealAccuracy takes the '
                            'validation images of ImageNet-1K under their names, ILSVRC2012_val_00000001.JPEG to '
                            f'ILSVRC2012_val_{len(real_labels()):08d}.JPEG.')
        return torch.tensor(real_labels()[number - 1], dtype=torch.long)
