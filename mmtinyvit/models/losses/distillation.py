"""Distillation of a classifier: its logits against what a teacher says, as a record of the store or as logits.

Functions give one value per image, ``(B,)`` in nats; modules their mean over the batch. All compute in float32 or
better.
"""
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store import Record

__all__ = [
    'HardDistillationLoss', 'SoftDistillationLoss', 'SparseSoftTargetLoss', 'hard_distillation_loss',
    'soft_distillation_loss', 'sparse_soft_target_loss', 'teacher_class'
]

BLOCK = 2**19  # logits worked on together on a CPU: what is needed besides the gradient stays small, and in the cache


# ---------------------------------------------------------------- what a teacher says
def teacher_class(teacher: Tensor | Record) -> Tensor:
    """The first class of a teacher, ``(B,)`` int64, from its logits ``(B, C)`` or its record."""
    if isinstance(teacher, Record):
        return teacher.index.gather(1, teacher.log_prob.argmax(1, keepdim=True))[:, 0]
    return teacher.argmax(1)


def recovered_target(record: Record, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The distribution that a record stands for, flattened by a temperature, for a student's ``logits`` ``(B, C)``.

    It is p_k on the K stored classes and the tail mass spread evenly on the others; a temperature raises each
    probability to the power of its inverse and makes the sum 1 again.

    Returns:
        tuple: Probability of each stored class ``(B, K)``, and of each other class ``(B,)``, 0 if there is none.
    """
    dtype, others = torch.promote_types(logits.dtype, torch.float32), logits.shape[1] - record.index.shape[1]
    log_prob, tail_mass = record.log_prob.to(dtype), record.tail_mass.to(dtype)
    if temperature == 1:
        prob, rest = log_prob.exp(), tail_mass / max(others, 1)
    else:
        log_rest = (tail_mass / max(others, 1)).log() / temperature  # (B,)
        scaled = torch.cat([log_prob / temperature, log_rest[:, None] + math.log(max(others, 1))], 1)
        scaled = scaled.log_softmax(1)  # (B, K + 1)
        prob, rest = scaled[:, :-1].exp(), scaled[:, -1].exp() / max(others, 1)
    return prob, rest if others else torch.zeros_like(rest)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """``logits / temperature`` in float32 or better."""
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return z if temperature == 1 else z / temperature


def _check_classes(logits: Tensor, teacher: Tensor | Record) -> None:
    """Refuses a teacher of another batch or of other classes."""
    if isinstance(teacher, Record):
        given = dict(index=teacher.index, log_prob=teacher.log_prob, tail_mass=teacher.tail_mass)
        B, C = logits.shape if logits.ndim == 2 else (None, 0)
        K = teacher.index.shape[-1]
        fits = K <= C and teacher.index.shape == teacher.log_prob.shape == (B, K) and teacher.tail_mass.shape == (B, )
    else:
        given = dict(logits=teacher)
        fits = logits.ndim == 2 and teacher.shape == logits.shape
    if not fits:
        shapes = ', '.join(f'{name} {tuple(part.shape)}' for name, part in given.items())
        raise UserError(f'The student gives logits {tuple(logits.shape)}, which do not fit what the teacher gives '
                        f"({shapes}): both must have the same classes, so set num_classes of the student's head to the "
                        "teacher's.")


# ---------------------------------------------------------------- the loss against a record
def _cross_entropy(z: Tensor, index: Tensor, excess: Tensor, rest: Tensor) -> Tensor:
    """L_b = s_b logsumexp(z_b) - sum_k e_bk z_bk - m_b sum_c z_bc, ``(B,)``, for logits z ``(B, C)``.

    s is the target's sum, e ``(B, K)`` by how much the probabilities of the stored classes exceed m, and m ``(B,)`` the
    probability of each other class.
    """
    total = excess.sum(1) + rest * z.shape[1]
    return total * z.logsumexp(1) - (excess * z.gather(1, index)).sum(1) - rest * z.sum(1)


class _SparseCrossEntropy(torch.autograd.Function):
    """:func:`_cross_entropy` of ``logits / temperature``, with one softmax for both passes.

    The forward pass leaves the softmax behind, and the backward pass turns it into the gradient in the same memory. It
    is gone then: a second backward pass computes it again.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, index: Tensor, excess: Tensor, rest: Tensor, temperature: float) -> Tensor:
        total = excess.sum(1) + rest * logits.shape[1]  # (B,)
        ctx.softmax = excess.new_empty(logits.shape)
        loss = torch.empty_like(rest)
        for rows in _blocks(logits):
            z = _scaled(logits[rows], temperature)
            top = z.amax(1)
            top_prob = torch.softmax(z, 1, out=ctx.softmax[rows]).amax(1)  # logsumexp(z) = top - log(top_prob)
            stored = (excess[rows] * (z.gather(1, index[rows]) - top[:, None])).sum(1)
            loss[rows] = -total[rows] * top_prob.log() - stored - rest[rows] * (z.sum(1) - z.shape[1] * top)
        ctx.save_for_backward(logits, index, excess, rest, total)
        ctx.temperature = temperature
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, index, excess, rest, total = ctx.saved_tensors
        out, ctx.softmax = ctx.softmax, None
        grad = (grad / ctx.temperature)[:, None]
        if out is None:
            out = excess.new_empty(logits.shape)
            for rows in _blocks(logits):
                torch.softmax(_scaled(logits[rows], ctx.temperature), 1, out=out[rows])
        for rows in _blocks(logits):
            out[rows].mul_(grad[rows] * total[rows, None]).sub_(grad[rows] * rest[rows, None])
            out[rows].scatter_add_(1, index[rows], excess[rows] * -grad[rows])
        return out.to(logits.dtype), None, None, None, None


def _blocks(logits: Tensor) -> Iterator[slice]:
    """Rows to work on together; on a GPU all."""
    num_rows, num_classes = logits.shape
    size = max(BLOCK // num_classes, 1) if logits.device.type == 'cpu' else num_rows
    return (slice(first, first + size) for first in range(0, num_rows, size))


def sparse_soft_target_loss(logits: Tensor, record: Record, temperature: float = 1.,
                            label_smoothing: float = 0.) -> Tensor:
    """Cross-entropy of a student against the recovered target of a teacher, without a (B, C) target.

    The target is p_k on the K stored classes and the tail mass spread evenly on the other C - K (Wu et al., TinyViT,
    ECCV 2022, section 3.2). Its gradient is that of the Kullback-Leibler divergence.

    Args:
        logits: Of the student, ``(B, C)``.
        record: Of the teacher, as tensors: index ``(B, K)`` int64, log_prob ``(B, K)`` and tail_mass ``(B,)``.
        temperature: Flattens teacher and student alike; the loss is multiplied by its square (Hinton et al., 2015).
        label_smoothing: Share of the target that is spread evenly on all C classes instead, in [0, 1).

    Raises:
        UserError: The shapes do not fit.
    """
    _check_classes(logits, record)
    num_classes, index = logits.shape[1], record.index
    prob, rest = recovered_target(record, logits, temperature)
    excess = (1 - label_smoothing) * (prob - rest[:, None])
    rest = (1 - label_smoothing) * rest + label_smoothing / num_classes
    if torch.is_grad_enabled() and logits.requires_grad and not torch.compiler.is_compiling():
        loss = _SparseCrossEntropy.apply(logits, index, excess, rest, temperature)
    else:  # the compiler fuses this by itself
        loss = _cross_entropy(_scaled(logits, temperature), index, excess, rest)
    return loss * temperature**2


@MODELS.register_module()
class SparseSoftTargetLoss(nn.Module):
    """The mean of :func:`sparse_soft_target_loss` over the batch, times ``loss_weight``."""

    def __init__(self, temperature: float = 1., loss_weight: float = 1., label_smoothing: float = 0.) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f'temperature={temperature} of SparseSoftTargetLoss must be above 0.')
        if not 0 <= label_smoothing < 1:
            raise UserError(f'label_smoothing={label_smoothing} of SparseSoftTargetLoss must lie between 0 and 1.')
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, record: Record) -> Tensor:
        """Shapes as for :func:`sparse_soft_target_loss`; returns a scalar."""
        loss = sparse_soft_target_loss(logits, record, self.temperature, self.label_smoothing)
        return loss.mean() * self.loss_weight


# ---------------------------------------------------------------- DeiT's losses, against logits or a record
def soft_distillation_loss(logits: Tensor, teacher: Tensor | Record, temperature: float = 1.) -> Tensor:
    """KL(teacher || student) with both flattened by a temperature, times its square (Hinton et al., 2015).

    With logits of the teacher this is the soft distillation of DeiT (Touvron et al., ICML 2021, equation 2). With a
    record of the store it is the same against the recovered target; the two agree as closely as the record agrees with
    the logits. Both are divergences: the value is zero for a student that equals its teacher.

    Args:
        logits: Of the student, ``(B, C)``.
        teacher: Logits of the teacher, ``(B, C)``, or its record.
        temperature: Above 0.

    Raises:
        UserError: The shapes do not fit.
    """
    _check_classes(logits, teacher)
    if isinstance(teacher, Record):
        cross_entropy = sparse_soft_target_loss(logits, teacher, temperature)
        others = logits.shape[1] - teacher.index.shape[1]
        prob, rest = recovered_target(teacher, logits, temperature)
        entropy = -(torch.xlogy(prob, prob).sum(1) + others * torch.xlogy(rest, rest))
        return cross_entropy - entropy * temperature**2
    student_log_prob = _scaled(logits, temperature).log_softmax(1)
    teacher_log_prob = _scaled(teacher, temperature).log_softmax(1)
    return F.kl_div(student_log_prob, teacher_log_prob, reduction='none', log_target=True).sum(1) * temperature**2


@MODELS.register_module()
class SoftDistillationLoss(nn.Module):
    """:func:`soft_distillation_loss`, reduced over the batch, times ``loss_weight``.

    Args:
        temperature: 3 in the paper of DeiT, 1 by default in its code.
        normalisation: ``'batchmean'`` divides the sum over the batch by B, as the paper's equation says; ``'numel'`` by
            B * C, as the code of DeiT does, which with 1,000 classes makes the loss 1,000 times smaller
            (https://github.com/facebookresearch/deit/issues/61).
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

    def forward(self, logits: Tensor, teacher: Tensor | Record) -> Tensor:
        """Shapes as for :func:`soft_distillation_loss`; returns a scalar."""
        loss = soft_distillation_loss(logits, teacher, self.temperature).mean()
        return loss * (self.loss_weight / (logits.shape[1] if self.normalisation == 'numel' else 1))


def hard_distillation_loss(logits: Tensor, teacher: Tensor | Record) -> Tensor:
    """Cross-entropy with the teacher's first class, without smoothing (Touvron et al., DeiT, ICML 2021, equation 3).

    No codec of the store changes the first class, so a record gives exactly what the teacher itself gives.

    Args:
        logits: Of the student, ``(B, C)``.
        teacher: Logits of the teacher, ``(B, C)``, or its record.

    Raises:
        UserError: The shapes do not fit.
    """
    _check_classes(logits, teacher)
    return F.cross_entropy(_scaled(logits, 1), teacher_class(teacher), reduction='none')


@MODELS.register_module()
class HardDistillationLoss(nn.Module):
    """The mean of :func:`hard_distillation_loss` over the batch, times ``loss_weight``."""

    def __init__(self, loss_weight: float = 1.) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, teacher: Tensor | Record) -> Tensor:
        """Shapes as for :func:`hard_distillation_loss`; returns a scalar."""
        return hard_distillation_loss(logits, teacher).mean() * self.loss_weight
