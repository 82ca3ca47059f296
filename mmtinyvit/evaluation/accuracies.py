"""Accuracies on ImageNet of heads with any label layout: against its labels, and against the ReaL ones."""
import json
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..errors import UserError
from ..registry import METRICS
from .class_map import LAYOUTS, match_classes, synsets

__all__ = ['MappedAccuracy', 'RealAccuracy', 'real_labels']


@METRICS.register_module()
class MappedAccuracy(BaseMetric):
    """Accuracy after the scores of a head are mapped to another label layout; by default from ImageNet-21K to 1K.

    Only the mapped classes compete. A class that the head does not have is never predicted (the original gives it the
    score 0 among logits, which may win; it concerns 50 of 50,000 images).

    Args:
        num_classes: Size of the head, or the name of its layout, see :func:`.synsets`.
        index: ``(classes of the data,)``, the head's class for each class of the data, -1 for none; by default found
            by synset.
        topk: The k of each accuracy: a label among the k best classes counts as right.
        target: Layout of the data's labels, by name or size.
        **kwargs: As for ``mmengine.evaluator.BaseMetric``; results are ``accuracy/top1`` and so on, in percent.

    Raises:
        UserError: A layout is not known, or ``topk`` is not between 1 and the number of the data's classes.
    """
    default_prefix = 'accuracy'

    def __init__(self, num_classes: int | str = 21841, index: Sequence[int] | None = None,
                 topk: int | Sequence[int] = (1, 5), target: int | str = 'in1k', **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes if isinstance(num_classes, int) else len(synsets(num_classes))
        index = torch.as_tensor(match_classes(num_classes, target) if index is None else index)
        self._index, self._absent = index.clamp(min=0), index < 0
        self.topk = (topk, ) if isinstance(topk, int) else tuple(topk)
        if not 1 <= min(self.topk) <= max(self.topk) <= len(index):
            raise UserError(f'{type(self).__name__} cannot tell the top {self.topk} of {len(index)} classes: set topk '
                            'to numbers from 1 to the number of classes.')

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
        super().__init__(num_classes, topk=topk, **kwargs)

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
