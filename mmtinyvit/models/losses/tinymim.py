"""TinyMIM's losses: distillation of the class token, of features, and of what every token of a block attends to.

Functions give one value per image, ``(B,)``; modules their mean over the batch.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

__all__ = [
    'FEATURES', 'ClassTokenDistillationLoss', 'FeatureDistillationLoss', 'RelationDistillationLoss',
    'class_token_distillation_loss', 'feature_distillation_loss', 'relation_distillation_loss'
]

# Where in a network a feature is taken, in the order in which a block computes them: queries, keys and values side by
# side; the attention's output before and behind the residual sum; the MLP's output before and behind it, the latter
# being the block's output; and the whole network's output behind its last norm.
FEATURES = ('qkv', 'attn', 'attn_residual', 'ffn', 'block', 'final')
RELATIONS = ('qq', 'kk', 'vv', 'qk')
CPU_ELEMENTS, GPU_ELEMENTS = 2**20, 2**26  # of one piece of a relation: what fits a cache, and what fills a GPU


class _RelationDivergence(torch.autograd.Function):
    """The divergence of the student's relation a b^T from the teacher's, a piece of the batch at a time.

    A relation has N * N entries per head, a hundred times more numbers than the loss is about. So each piece's
    gradient for a and b is computed while its relations are still there, and only that is kept for the backward pass:
    no relation outlives its piece, and nothing is computed twice.
    """

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor | None, target_a: Tensor, target_b: Tensor, scale: float,
                target_scale: float, softmax: bool) -> Tensor:
        dtype = torch.promote_types(a.dtype, torch.float32)
        B, H, N, _ = a.shape
        twice = b is None  # a relation of a with itself
        grads = [torch.empty(x.shape, dtype=dtype, device=x.device) for x in (a, b) if x is not None]
        loss = torch.empty(B, dtype=dtype, device=a.device)
        limit = GPU_ELEMENTS if a.is_cuda else CPU_ELEMENTS
        pieces = range(0, B, max(1, limit // (H * N * N)))
        with torch.autocast(a.device.type, enabled=False):
            for part in (slice(start, start + pieces.step) for start in pieces):
                left = a[part].to(dtype)  # (n, H, N, d)
                right = left if twice else b[part].to(dtype)
                loss[part], grad = _compare(
                    (left * scale) @ right.mT, (target_a[part].to(dtype) * target_scale) @ target_b[part].to(dtype).mT,
                    softmax, any(ctx.needs_input_grad[:2]))
                if grad is None:
                    continue
                grad *= scale / (H * N)
                if twice:
                    torch.matmul(grad + grad.mT, left, out=grads[0][part])
                else:
                    torch.matmul(grad, right, out=grads[0][part])
                    torch.matmul(grad.mT, left, out=grads[1][part])
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(*grads)
            ctx.dtypes = a.dtype, None if twice else b.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        outs = [(saved * grad[:, None, None, None]).to(dtype)
                for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=False)]
        return *outs, *([None] * (7 - len(outs)))


def _compare(products: Tensor, targets: Tensor, softmax: bool, with_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Divergence ``(n,)``, and its gradient for ``products`` ``(n, H, N, N)``, before the mean over heads and rows."""
    if softmax:
        products, targets = products.log_softmax(-1), targets.log_softmax(-1)
        prob = targets.exp()
        loss = targets.sub_(products).mul_(prob).sum(-1).mean((1, 2))
        return loss, products.exp_().sub_(prob) if with_grad else None
    difference = products.sub_(targets)
    loss = difference.square().mean((1, 2, 3))
    return loss, difference.mul_(2 / difference.shape[-1]) if with_grad else None


def relation_distillation_loss(a: Tensor, b: Tensor, teacher_a: Tensor, teacher_b: Tensor, scale: float | None = None,
                               teacher_scale: float | None = None, softmax: bool = True) -> Tensor:
    """How far the student's relation between ``a`` and ``b`` is from the teacher's.

    With softmax it is the Kullback-Leibler divergence KL(teacher || student) of the rows of softmax(s a b^T) (Ren et
    al., TinyMIM, CVPR 2023, section 3.2), the mean over heads and rows. Without it is the mean squared difference of
    s a b^T, a definition of this library. Products and logarithms are computed in float32 or better, also under
    autocast.

    Args:
        a, b: Queries, keys or values of the student, ``(B, H, N, d)``; one tensor twice for a relation with itself.
        teacher_a, teacher_b: Of the teacher, ``(B, H, N, D)``; no gradient flows there.
        scale, teacher_scale: Each network's s; the inverse root of its ``d`` or ``D`` by default.
        softmax: Compare distributions, or the scaled products themselves.

    Raises:
        UserError: Heads, tokens or batch differ.
    """
    if a.shape != b.shape or teacher_a.shape != teacher_b.shape or a.ndim != 4 or a.shape[:3] != teacher_a.shape[:3]:
        raise UserError(f'The student has {_spell(a, b)} and the teacher {_spell(teacher_a, teacher_b)}, whose '
                        "relations cannot be compared: set num_heads of the student's tapped block to the teacher's "
                        '(layer_cfgs of VisionTransformer), and give both the same image and patch size.')
    scale = a.shape[-1]**-0.5 if scale is None else scale
    teacher_scale = teacher_a.shape[-1]**-0.5 if teacher_scale is None else teacher_scale
    return _RelationDivergence.apply(a, None if b is a else b, teacher_a.detach(), teacher_b.detach(), scale,
                                     teacher_scale, softmax)


def _spell(a: Tensor, b: Tensor) -> str:
    if a.ndim == 4 and a.shape == b.shape:
        return f'{a.shape[1]} heads over {a.shape[2]} tokens of {a.shape[0]} images'
    return f'tensors {tuple(a.shape)} and {tuple(b.shape)}'


@MODELS.register_module()
class RelationDistillationLoss(nn.Module):
    """The mean of :func:`relation_distillation_loss` over the batch, for each of some relations, times ``loss_weight``.

    Args:
        relations: Any of ``'qq'``, ``'kk'``, ``'vv'`` and ``'qk'``. The released code has ``('qk', 'vv')``.
        softmax, scale, teacher_scale: See :func:`relation_distillation_loss`.
    """
    feature = 'qkv'

    def __init__(self, relations: Sequence[str] = ('qk', 'vv'), softmax: bool = True, scale: float | None = None,
                 teacher_scale: float | None = None, loss_weight: float = 1.) -> None:
        super().__init__()
        if not relations or isinstance(relations, str) or not set(relations) <= set(RELATIONS):
            raise UserError(f'relations={relations!r} of RelationDistillationLoss must be a list of some of '
                            f'{", ".join(RELATIONS)}.')
        self.relations = tuple(dict.fromkeys(relations))
        self.softmax = softmax
        self.scale = scale
        self.teacher_scale = teacher_scale
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare queries, keys and values, ``(3, B, H, N, d)`` and ``(3, B, H, N, D)``; a scalar for each relation."""
        student_qkv, teacher_qkv = (dict(zip('qkv', tokens, strict=True)) for tokens in (student, teacher))
        return {
            a + b: self.loss_weight * relation_distillation_loss(
                student_qkv[a], student_qkv[b], teacher_qkv[a], teacher_qkv[b], self.scale, self.teacher_scale,
                self.softmax).mean()
            for a, b in self.relations
        }


def _project(layer: nn.Module, tokens: Tensor, teacher_dims: int) -> Tensor:
    """Apply a projection. Raises :class:`UserError` if it is not made for these widths."""
    expected = tuple(getattr(layer, name, tokens.shape[-1]) for name in ('in_features', 'out_features'))
    if expected != (tokens.shape[-1], teacher_dims):
        raise UserError(f'The student has {tokens.shape[-1]} channels and the teacher {teacher_dims}, but the loss was '
                        f'made for {expected[0]} and {expected[1]}: correct its student_dims and teacher_dims.')
    return layer(tokens)


def class_token_distillation_loss(token: Tensor, teacher_token: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(softmax(teacher) || softmax(student)) over the channels of the class token.

    Ren et al., TinyMIM (CVPR 2023), section 3.2; which of the two distributions the divergence starts from is not in
    the released code, and is here as for relations. Computed in float32 or better.

    Args:
        token: Of the student, projected to the teacher's width if need be, ``(B, D)``.
        teacher_token: Of the teacher, ``(B, D)``; no gradient flows there.

    Raises:
        UserError: The shapes differ.
    """
    if token.shape != teacher_token.shape or token.ndim != 2:
        raise UserError(f"The student's class token {tuple(token.shape)} and the teacher's "
                        f'{tuple(teacher_token.shape)} cannot be compared: give ClassTokenDistillationLoss '
                        'student_dims and teacher_dims.')
    dtype = torch.promote_types(token.dtype, torch.float32)  # autocast leaves what follows in it
    log_prob, teacher_log_prob = token.to(dtype).log_softmax(1), teacher_token.detach().to(dtype).log_softmax(1)
    return F.kl_div(log_prob, teacher_log_prob, reduction='none', log_target=True).sum(1)


@MODELS.register_module()
class ClassTokenDistillationLoss(nn.Module):
    """The mean of :func:`class_token_distillation_loss` over the batch, times ``loss_weight``.

    Args:
        student_dims: Width of the student.
        teacher_dims: Width of the teacher; where it differs, a linear layer projects the student's token, which the
            student does not keep.
        feature: Where the token is taken, see :data:`FEATURES`; not from ``'qkv'``.
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
    """The mean of :func:`feature_distillation_loss` over the batch, times ``loss_weight``.

    Args:
        student_dims: Channels of the student's feature; three times its width for ``'qkv'``.
        teacher_dims: Likewise of the teacher. A linear layer projects the student's feature, also where they are
            equal; the student does not keep it.
        feature: Where the features are taken, one of :data:`FEATURES`.
        beta: See :func:`feature_distillation_loss`.
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
            student, teacher = (qkv.permute(1, 3, 0, 2, 4).flatten(2) for qkv in (student, teacher))
        tokens = _project(self.projection, student, teacher.shape[-1])
        return dict(feature=self.loss_weight * feature_distillation_loss(tokens, teacher, self.beta).mean())
