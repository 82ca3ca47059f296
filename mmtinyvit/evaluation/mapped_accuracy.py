"""Accuracy on a small set of classes of a model with a larger head."""
from collections.abc import Sequence

import torch
from mmpretrain.evaluation import Accuracy

from ..errors import UserError
from ..registry import METRICS
from .class_map import IN21K_LAYOUTS, in21k_to_in1k_index

__all__ = ['MappedAccuracy']


@METRICS.register_module()
class MappedAccuracy(Accuracy):
    """``mmpretrain.Accuracy`` after the scores of a large head are mapped to fewer classes; by default from
    ImageNet-21K to ImageNet-1K.

    Only the mapped classes compete. A class of ImageNet-1K that the head does not have is never predicted (the original
    gives it the score 0 among logits, which may win; it concerns 50 of 50,000 images).

    Args:
        num_classes: Size of the head, see :data:`.class_map.IN21K_LAYOUTS`.
        index: The head's class for each class of the data, -1 for none; by default the map of the 1,000 classes.
        topk, collect_device, prefix: As for ``mmpretrain.Accuracy``; results are ``accuracy/top1`` and so on.
    """

    def __init__(self,
                 num_classes: int = 21841,
                 index: Sequence[int] | None = None,
                 topk: int | Sequence[int] = (1, 5),
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(topk=topk, thrs=None, collect_device=collect_device, prefix=prefix)
        self.num_classes = num_classes
        index = torch.from_numpy(in21k_to_in1k_index(num_classes).copy()) if index is None else torch.tensor(index)
        self._index, self._absent = index.clamp(min=0), index < 0

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Map one batch.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``pred_score`` ``(num_classes,)`` and ``gt_label`` among the 1,000 classes.

        Raises:
            UserError: The head has another number of classes.
        """
        for sample in data_samples:
            score = sample['pred_score']
            if score.numel() != self.num_classes:
                layouts = ', '.join(map(str, IN21K_LAYOUTS))
                raise UserError(f'The model scores {score.numel()} classes, but MappedAccuracy was told '
                                f'{self.num_classes}: set its num_classes to the size of the head ({layouts}), or use '
                                'Accuracy for a head without a map.')
            mapped = score.cpu()[self._index].masked_fill(self._absent, -torch.inf)
            self.results.append({'pred_score': mapped, 'gt_label': sample['gt_label'].cpu()})
