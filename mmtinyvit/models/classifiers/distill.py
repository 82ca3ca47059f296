"""Students of a store: ordinary mmpretrain classifiers whose loss reads the teacher's record."""
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier, TimmClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store import Record

from ..losses import teacher_class

__all__ = ['DistillClassifier', 'DistillTimmClassifier', 'stored_record']


def stored_record(data_samples: list[DataSample], device: torch.device) -> Record:
    """What a store says about a batch: the fields that ``LoadTeacherLogits`` adds, as tensors on ``device``.

    Raises:
        UserError: A sample has no record.
    """
    if 'teacher_index' not in data_samples[0]:
        raise UserError("The samples carry no teacher's record: put mmtinyvit.LoadTeacherLogits into the training "
                        'pipeline, and mmtinyvit.PackViewInputs at its end.')
    rows = [Record(s.teacher_index, s.teacher_log_prob, s.teacher_tail_mass) for s in data_samples]
    return Record.stack(rows).to(device)


class _DistillMixin:
    """The loss against the store, for any classifier whose ``tensor`` mode returns logits ``(B, C)``."""

    def __init__(self, *args, distill: dict | None = None, label_weight: float = 0., **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= label_weight <= 1:
            raise UserError(f'label_weight={label_weight} must lie between 0 (teacher alone) and 1 (labels alone).')
        self.distill_loss: nn.Module = MODELS.build(distill or dict(type='mmtinyvit.SparseSoftTargetLoss'))
        self.label_weight = label_weight

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: ``(B, 3, H, W)``, normalised.
            data_samples: One per image, with the teacher's record, and with labels if ``label_weight`` is above 0.

        Returns:
            dict: ``loss_teacher``, ``loss_label`` if it has weight, and ``teacher_agreement``, the percentage of images
            whose first class is the teacher's.
        """
        logits = self(inputs, mode='tensor')  # (B, C)
        record = stored_record(data_samples, logits.device)
        losses = dict(loss_teacher=(1 - self.label_weight) * self.distill_loss(logits, record))
        if self.label_weight > 0:
            if 'gt_score' in data_samples[0]:
                target = torch.stack([sample.gt_score for sample in data_samples]).to(logits)
            else:
                target = torch.cat([sample.gt_label for sample in data_samples]).to(logits.device)
            losses['loss_label'] = self.label_weight * F.cross_entropy(logits.float(), target)
        losses['teacher_agreement'] = (logits.argmax(1) == teacher_class(record)).float().mean() * 100
        return losses


@MODELS.register_module()
class DistillClassifier(_DistillMixin, ImageClassifier):
    """``mmpretrain.ImageClassifier`` that learns from a store. Its checkpoint is a plain ``ImageClassifier``'s.

    Args:
        *args: Of ``ImageClassifier``.
        distill: Config of the loss; :class:`~mmtinyvit.models.losses.SparseSoftTargetLoss` by default.
        label_weight: Share of the label loss, in [0, 1]. At 0, the default, labels are not read.
        **kwargs: Of ``ImageClassifier``.
    """


@MODELS.register_module()
class DistillTimmClassifier(_DistillMixin, TimmClassifier):
    """``mmpretrain.TimmClassifier`` that learns from a store. Its checkpoint is a plain ``TimmClassifier``'s.

    Args:
        *args: Of ``TimmClassifier``.
        **kwargs: Of ``TimmClassifier``, among them ``model_name``; ``distill`` and ``label_weight`` of
            :class:`DistillClassifier`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{'loss': dict(type='mmpretrain.CrossEntropyLoss'), **kwargs})
