"""Hard distillation: the teacher's first class as the label."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .teacher_record import TeacherRecord, teacher_class

__all__ = ['HardDistillationLoss', 'hard_distillation_loss']


def hard_distillation_loss(logits: Tensor, teacher: Tensor | TeacherRecord) -> Tensor:
    """Cross-entropy with the teacher's first class, without smoothing (Touvron et al., DeiT, ICML 2021, equation 3).

    No codec of the store changes the first class, so a record gives exactly what the teacher itself gives. Computed in
    float32 or better.

    Args:
        logits: Of the student, ``(B, C)``.
        teacher: Logits of the teacher, ``(B, C)``, or its record.

    Returns:
        Tensor: ``(B,)``.

    Raises:
        UserError: The shapes do not fit.
    """
    stored = isinstance(teacher, TeacherRecord)
    theirs = teacher.index if stored else teacher
    if logits.ndim != 2 or theirs.ndim != 2 or len(theirs) != len(logits) or (
            theirs.shape[1] > logits.shape[1] if stored else theirs.shape[1] != logits.shape[1]):
        raise UserError(f'The student gives logits {tuple(logits.shape)} and the teacher {tuple(theirs.shape)}: both '
                        "must have the same classes, so set num_classes of the student's head to the teacher's.")
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), teacher_class(teacher),
                           reduction='none')


@MODELS.register_module()
class HardDistillationLoss(nn.Module):
    """The mean of :func:`hard_distillation_loss` over the batch, times a weight.

    Args:
        loss_weight: Factor.
    """

    def __init__(self, loss_weight: float = 1.) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, teacher: Tensor | TeacherRecord) -> Tensor:
        """Shapes as for :func:`hard_distillation_loss`; returns a scalar."""
        return hard_distillation_loss(logits, teacher).mean() * self.loss_weight
