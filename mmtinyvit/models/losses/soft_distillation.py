"""Soft distillation: the divergence of the student from the teacher, at a temperature."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .sparse_soft_target import sparse_soft_target_loss
from .teacher_record import TeacherRecord, recovered_target

__all__ = ['SoftDistillationLoss', 'soft_distillation_loss']


def soft_distillation_loss(logits: Tensor, teacher: Tensor | TeacherRecord, temperature: float = 1.) -> Tensor:
    """KL(teacher || student) with both flattened by a temperature, times its square (Hinton et al., 2015).

    With logits of the teacher this is the soft distillation of DeiT (Touvron et al., ICML 2021, equation 2). With a
    record of the store it is the same against the recovered target, computed without a (B, C) target; the two agree
    as closely as the record agrees with the logits. Both are divergences, with the teacher's entropy subtracted: the
    value is zero for a student that equals its teacher. Computed in float32 or better.

    Args:
        logits: Of the student, ``(B, C)``.
        teacher: Logits of the teacher, ``(B, C)``, or its record.
        temperature: Above 0.

    Returns:
        Tensor: ``(B,)``, in nats.

    Raises:
        UserError: The shapes do not fit.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if isinstance(teacher, TeacherRecord):
        cross_entropy = sparse_soft_target_loss(logits.to(dtype), *teacher, temperature)
        others = logits.shape[1] - teacher.index.shape[1]
        prob, rest = recovered_target(teacher.log_prob.to(dtype), teacher.tail_mass.to(dtype), others, temperature)
        entropy = -(torch.xlogy(prob, prob).sum(1) + others * torch.xlogy(rest, rest))
        return cross_entropy - entropy * temperature**2
    if teacher.shape != logits.shape:
        raise UserError(f'The student gives logits {tuple(logits.shape)} and the teacher {tuple(teacher.shape)}: both '
                        "must have the same classes, so set num_classes of the student's head to the teacher's.")
    ours = (logits.to(dtype) / temperature).log_softmax(1)
    theirs = (teacher.to(dtype) / temperature).log_softmax(1)
    return F.kl_div(ours, theirs, reduction='none', log_target=True).sum(1) * temperature**2


@MODELS.register_module()
class SoftDistillationLoss(nn.Module):
    """:func:`soft_distillation_loss`, reduced over the batch.

    Args:
        temperature: 3 in the paper of DeiT, 1 by default in its code.
        normalisation: ``'batchmean'`` divides the sum over the batch by B, as the paper's equation says; ``'numel'`` by
            B * C, as the code of DeiT does, which with 1,000 classes makes the loss 1,000 times smaller
            (https://github.com/facebookresearch/deit/issues/61).
        loss_weight: Factor.
    """

    def __init__(self, temperature: float = 1., normalisation: str = 'batchmean', loss_weight: float = 1.) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f'temperature={temperature} of SoftDistillationLoss must be above 0.')
        if normalisation not in ('batchmean', 'numel'):
            raise UserError(f'normalisation={normalisation!r} of SoftDistillationLoss must be batchmean or numel.')
        self.temperature = temperature
        self.normalisation = normalisation
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, teacher: Tensor | TeacherRecord) -> Tensor:
        """Shapes as for :func:`soft_distillation_loss`; returns a scalar."""
        loss = soft_distillation_loss(logits, teacher, self.temperature).mean()
        return loss * (self.loss_weight / (logits.shape[1] if self.normalisation == 'numel' else 1))
