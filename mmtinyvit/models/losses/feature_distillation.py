"""TinyMIM's alternatives to relations: distillation of the class token, and of features."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

__all__ = [
    'FEATURES', 'ClassTokenDistillationLoss', 'FeatureDistillationLoss', 'class_token_distillation_loss',
    'feature_distillation_loss'
]

# Where in a network a feature is taken, in the order in which a block computes them: queries, keys and values side by
# side; the attention's output before and behind the residual sum; the MLP's output before and behind it, the latter
# being the block's output; and the whole network's output behind its last norm.
FEATURES = ('qkv', 'attn', 'attn_residual', 'ffn', 'block', 'final')


def _project(layer: nn.Module, tokens: Tensor, teacher_dims: int) -> Tensor:
    """Apply a projection. Raises :class:`UserError` if it is not made for these widths."""
    ours, theirs = getattr(layer, 'in_features', tokens.shape[-1]), getattr(layer, 'out_features', tokens.shape[-1])
    if tokens.shape[-1] != ours or theirs != teacher_dims:
        raise UserError(f'The student has {tokens.shape[-1]} channels and the teacher {teacher_dims}, but the loss was '
                        f'made for {ours} and {theirs}: correct its student_dims and teacher_dims.')
    return layer(tokens)


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
    dtype = torch.promote_types(token.dtype, torch.float32)  # autocast leaves what follows in it
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
        token = _project(self.projection, student[:, 0], teacher.shape[-1])
        return dict(cls=self.loss_weight * class_token_distillation_loss(token, teacher[:, 0]).mean())


def feature_distillation_loss(tokens: Tensor, teacher_tokens: Tensor, beta: float = 2., eps: float = 1e-6) -> Tensor:
    """Smooth L1 distance between the student's features and the teacher's whitened ones.

    The target is normalised over its channels without learnt scale and shift. The setting is that of Wei et al.,
    "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature Distillation" (2022); that TinyMIM
    has the same numbers is unverified. Computed in float32 or better.

    Args:
        tokens: Of the student, projected to the teacher's width if need be, ``(B, N, D)``.
        teacher_tokens: Of the teacher, ``(B, N, D)``; no gradient flows there.
        beta: Below this distance the loss is quadratic.
        eps: Added to the variance.

    Returns:
        Tensor: ``(B,)``.

    Raises:
        UserError: The shapes differ.
    """
    if tokens.shape != teacher_tokens.shape or tokens.ndim != 3:
        raise UserError(f"The student's features {tuple(tokens.shape)} and the teacher's "
                        f'{tuple(teacher_tokens.shape)} cannot be compared: both need the same image and patch size, '
                        'and FeatureDistillationLoss their student_dims and teacher_dims.')
    dtype = torch.promote_types(tokens.dtype, torch.float32)  # autocast leaves what follows in it
    target = F.layer_norm(teacher_tokens.detach().to(dtype), teacher_tokens.shape[-1:], eps=eps)
    return F.smooth_l1_loss(tokens.to(dtype), target, reduction='none', beta=beta).mean((1, 2))


@MODELS.register_module()
class FeatureDistillationLoss(nn.Module):
    """The mean of :func:`feature_distillation_loss` over the batch.

    Args:
        student_dims: Channels of the student's feature; three times its width for ``'qkv'``.
        teacher_dims: Likewise of the teacher. A linear layer projects the student's feature, also where they are
            equal; the student does not keep it.
        feature: Where the features are taken, one of :data:`FEATURES`.
        beta: See :func:`feature_distillation_loss`.
        loss_weight: Factor.
    """

    def __init__(self, student_dims: int, teacher_dims: int, feature: str = 'block', beta: float = 2.,
                 loss_weight: float = 1.) -> None:
        super().__init__()
        if feature not in FEATURES:
            raise UserError(f'feature={feature!r} of FeatureDistillationLoss must be one of {", ".join(FEATURES)}.')
        if beta <= 0:
            raise UserError(f'beta={beta} of FeatureDistillationLoss must be above 0.')
        self.projection = nn.Linear(student_dims, teacher_dims)
        self.feature = feature
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare ``(B, N, d)`` and ``(B, N, D)``, or for ``'qkv'`` ``(3, B, H, N, d / H)``; a scalar ``feature``."""
        if self.feature == 'qkv':
            student, teacher = (each.permute(1, 3, 0, 2, 4).flatten(2) for each in (student, teacher))
        tokens = _project(self.projection, student, teacher.shape[-1])
        return dict(feature=self.loss_weight * feature_distillation_loss(tokens, teacher, self.beta).mean())
