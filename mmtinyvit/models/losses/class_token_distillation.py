"""Distillation of the class token, the first of TinyMIM's alternatives to relations."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .feature_distillation import FEATURES, project

__all__ = ['ClassTokenDistillationLoss', 'class_token_distillation_loss']


def class_token_distillation_loss(token: Tensor, teacher_token: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(softmax(teacher) || softmax(student)) over the channels of the class token.

    Ren et al., TinyMIM (CVPR 2023), section 3.2; which of the two distributions the divergence starts from is not in
    the released code, and is here as for relations. Computed in float32 or better.

    Args:
        token: Of the student, projected to the teacher's width if need be, ``(B, D)``.
        teacher_token: Of the teacher, ``(B, D)``; no gradient flows there.

    Returns:
        Tensor: ``(B,)``.

    Raises:
        UserError: The shapes differ.
    """
    if token.shape != teacher_token.shape or token.ndim != 2:
        raise UserError(f"The student's class token {tuple(token.shape)} and the teacher's "
                        f'{tuple(teacher_token.shape)} cannot be compared: give ClassTokenDistillationLoss '
                        'student_dims and teacher_dims.')
    dtype = torch.promote_types(token.dtype, torch.float32)
    with torch.autocast(token.device.type, enabled=False):
        ours, theirs = token.to(dtype).log_softmax(1), teacher_token.detach().to(dtype).log_softmax(1)
        return F.kl_div(ours, theirs, reduction='none', log_target=True).sum(1)


@MODELS.register_module()
class ClassTokenDistillationLoss(nn.Module):
    """The mean of :func:`class_token_distillation_loss` over the batch.

    Args:
        student_dims: Width of the student.
        teacher_dims: Width of the teacher; where it differs, a linear layer projects the student's token, which the
            student does not keep.
        feature: Where the token is taken, see :data:`FEATURES`; not from ``'qkv'``.
        loss_weight: Factor.
    """

    def __init__(self, student_dims: int, teacher_dims: int, feature: str = 'block', loss_weight: float = 1.) -> None:
        super().__init__()
        if feature not in FEATURES[1:]:
            raise UserError(f'feature={feature!r} of ClassTokenDistillationLoss must be one of '
                            f'{", ".join(FEATURES[1:])}.')
        self.projection = nn.Identity() if student_dims == teacher_dims else nn.Linear(student_dims, teacher_dims)
        self.feature = feature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare the first tokens of ``(B, N, d)`` and ``(B, N, D)``; a scalar named ``cls``."""
        token = project(self.projection, student[:, 0], teacher.shape[-1])
        return dict(cls=self.loss_weight * class_token_distillation_loss(token, teacher[:, 0]).mean())
