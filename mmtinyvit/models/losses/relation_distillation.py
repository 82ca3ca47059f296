"""Distillation of token relations: what every token of a block attends to, the student's against the teacher's."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

__all__ = ['RelationDistillationLoss', 'relation_distillation_loss']

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
        outs = [(each * grad[:, None, None, None]).to(dtype)
                for each, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=False)]
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
    s a b^T, a definition of this library. Heads are only as wide as their network, so the widths may differ; their
    number and the tokens may not. Products and logarithms are computed in float32 or better, also under autocast.

    Args:
        a: Queries, keys or values of the student, ``(B, H, N, d)``.
        b: Likewise; the same tensor as ``a`` for a relation with itself.
        teacher_a: Of the teacher, ``(B, H, N, D)``; no gradient flows there.
        teacher_b: Likewise.
        scale: The student's s; ``d ** -0.5`` by default.
        teacher_scale: The teacher's s; ``D ** -0.5`` by default.
        softmax: Compare distributions, or the scaled products themselves.

    Returns:
        Tensor: ``(B,)``.

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
    """The mean of :func:`relation_distillation_loss` over the batch, for each of a set of relations.

    Args:
        relations: Any of ``'qq'``, ``'kk'``, ``'vv'`` and ``'qk'``. The released code has ``('qk', 'vv')``.
        softmax, scale, teacher_scale: See :func:`relation_distillation_loss`.
        loss_weight: Factor.
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
        ours, theirs = dict(zip('qkv', student, strict=True)), dict(zip('qkv', teacher, strict=True))
        return {
            name: self.loss_weight * relation_distillation_loss(
                ours[name[0]], ours[name[1]], theirs[name[0]], theirs[name[1]], self.scale, self.teacher_scale,
                self.softmax).mean()
            for name in self.relations
        }
