"""From the labels of a large ImageNet to those of ImageNet-1K, by synset; and the accuracy of a large head on these.

timm ships the synset list of every label layout in use. Looking the 1,000 synsets up in the 21,841 gives exactly the
map that TinyViT was published with (``imagenet_1kto22k.txt``): 999 matches, and none for n04399382 (teddy bear).
"""
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from mmpretrain.evaluation import Accuracy
from timm.data import ImageNetInfo

from ..errors import UserError
from ..registry import METRICS

__all__ = ['IN21K_LAYOUTS', 'MappedAccuracy', 'class_names', 'in21k_to_in1k_index', 'synsets']

IN21K_LAYOUTS = {
    21841: 'imagenet-22k',  # release fall 2011, synsets sorted: TinyViT, its teacher, Swin, ConvNeXt
    21842: 'imagenet-22k-ms',  # FocalNet: the 1,000 classes first
    21843: 'imagenet-21k-goog',  # ViT, BiT, EfficientNetV2
    11221: 'imagenet-21k-miil',  # ImageNet-21K-P, winter 2021
    11821: 'imagenet-12k',  # timm's own subset
}


@cache
def synsets(subset: str) -> tuple[str, ...]:
    """The WordNet synsets of a label layout in label order, by timm's name such as ``'imagenet-22k'``."""
    return tuple(ImageNetInfo(subset).label_names())


@cache
def class_names(subset: str) -> tuple[str, ...]:
    """What people call the classes of a label layout, in label order; see :func:`synsets`."""
    return tuple(ImageNetInfo(subset).label_descriptions())


@cache
def in21k_to_in1k_index(num_classes: int = 21841) -> np.ndarray:
    """Which class of the large layout each class of ImageNet-1K is.

    Args:
        num_classes: Size of the large head; says which layout it is, see :data:`IN21K_LAYOUTS`.

    Returns:
        ``(1000,)`` int64, read-only: index into the large head, -1 for a class that it does not have.

    Raises:
        UserError: No layout with this number of classes is known.
    """
    if num_classes not in IN21K_LAYOUTS:
        known = ', '.join(f'{count} ({name})' for count, name in IN21K_LAYOUTS.items())
        raise UserError(f'No layout of ImageNet-21K labels has {num_classes} classes: the known ones have {known}.')
    position = {synset: index for index, synset in enumerate(synsets(IN21K_LAYOUTS[num_classes]))}
    index = np.array([position.get(synset, -1) for synset in synsets('imagenet-1k')], np.int64)
    index.flags.writeable = False
    return index


@METRICS.register_module()
class MappedAccuracy(Accuracy):
    """``mmpretrain.Accuracy`` after the scores of a large head are mapped to fewer classes; by default from
    ImageNet-21K to ImageNet-1K.

    Only the mapped classes compete. A class of ImageNet-1K that the head does not have is never predicted (the original
    gives it the score 0 among logits, which may win; it concerns 50 of 50,000 images).

    Args:
        num_classes: Size of the head, see :data:`IN21K_LAYOUTS`.
        index: The head's class for each class of the data, -1 for none; by default the map of the 1,000 classes.
        topk, **kwargs: As for ``mmpretrain.Accuracy``; results are ``accuracy/top1`` and so on.
    """

    def __init__(self, num_classes: int = 21841, index: Sequence[int] | None = None,
                 topk: int | Sequence[int] = (1, 5), **kwargs) -> None:
        super().__init__(topk, thrs=None, **kwargs)
        self.num_classes = num_classes
        index = torch.from_numpy(in21k_to_in1k_index(num_classes).copy()) if index is None else torch.tensor(index)
        self._index, self._absent = index.clamp(min=0), index < 0

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Map the ``pred_score`` ``(num_classes,)`` of a batch. Raises :class:`UserError` if it has another size."""
        for sample in data_samples:
            score = sample['pred_score']
            if score.numel() != self.num_classes:
                layouts = ', '.join(map(str, IN21K_LAYOUTS))
                raise UserError(f'The model scores {score.numel()} classes, but MappedAccuracy was told '
                                f'{self.num_classes}: set its num_classes to the size of the head ({layouts}), or use '
                                'Accuracy for a head without a map.')
            mapped = score.cpu()[self._index].masked_fill(self._absent, -torch.inf)
            self.results.append({'pred_score': mapped, 'gt_label': sample['gt_label'].cpu()})
