"""Cross-entropy against a teacher's top K classes and tail, without a (B, C) target."""
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .teacher_record import recovered_target

__all__ = ['SparseSoftTargetLoss', 'sparse_soft_target_loss']

BLOCK = 2**20  # logits worked on together on a CPU: what is needed besides the gradient stays small, and in the cache


def _cross_entropy(z: Tensor, index: Tensor, excess: Tensor, rest: Tensor) -> Tensor:
    """L_b = s_b logsumexp(z_b) - sum_k e_bk z_bk - m_b sum_c z_bc, with s_b the target's sum; ``(B,)``.

    Args:
        z: Logits ``(B, C)``.
        index: Stored classes ``(B, K)``.
        excess: e, by how much their probabilities exceed m, ``(B, K)``.
        rest: m, the probability of each other class, ``(B,)``.
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
        for rows, z in _blocks(logits, temperature):
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
            for rows, z in _blocks(logits, ctx.temperature):
                torch.softmax(z, 1, out=out[rows])
        for rows in _rows(logits):
            out[rows].mul_(grad[rows] * total[rows, None]).sub_(grad[rows] * rest[rows, None])
            out[rows].scatter_add_(1, index[rows], excess[rows] * -grad[rows])
        return out.to(logits.dtype), None, None, None, None


def _rows(logits: Tensor) -> Iterator[slice]:
    """Rows to work on together; on a GPU all."""
    num_rows, num_classes = logits.shape
    size = BLOCK // num_classes if logits.device.type == 'cpu' else num_rows
    return (slice(first, first + max(size, 1)) for first in range(0, num_rows, max(size, 1)))


def _blocks(logits: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their ``logits / temperature`` in float32 or better, valid until the next are asked for."""
    dtype, scratch = torch.promote_types(logits.dtype, torch.float32), None
    for rows in _rows(logits):
        z = logits[rows]
        if dtype != logits.dtype or temperature != 1:
            scratch = torch.empty_like(z, dtype=dtype) if scratch is None else scratch[:len(z)]
            z = scratch.copy_(z).div_(temperature)
        yield rows, z


def sparse_soft_target_loss(logits: Tensor,
                            index: Tensor,
                            log_prob: Tensor,
                            tail_mass: Tensor,
                            temperature: float = 1.,
                            label_smoothing: float = 0.) -> Tensor:
    """Cross-entropy of a student against the recovered target of a teacher.

    The target is p_k on the K stored classes and the tail mass spread evenly on the other C - K (Wu et al., TinyViT,
    ECCV 2022, section 3.2). Its gradient is that of the Kullback-Leibler divergence. Computed in float32 or better.

    Args:
        logits: Of the student, ``(B, C)``.
        index: Stored classes, ``(B, K)`` int64.
        log_prob: Their log-probabilities, ``(B, K)``.
        tail_mass: Probability of all other classes together, ``(B,)``.
        temperature: Flattens teacher and student alike; the loss is multiplied by its square (Hinton et al., 2015).
        label_smoothing: Share of the target that is spread evenly on all C classes instead, in [0, 1).

    Returns:
        Tensor: ``(B,)``.

    Raises:
        UserError: The shapes do not fit.
    """
    fits = (logits.ndim == index.ndim == 2 and len(index) == len(logits) and log_prob.shape == index.shape
            and tail_mass.shape == logits.shape[:1] and index.shape[1] <= logits.shape[1])
    if not fits:
        raise UserError(f'The student gives logits {tuple(logits.shape)}, which do not fit targets with index '
                        f'{tuple(index.shape)}, log_prob {tuple(log_prob.shape)} and tail_mass '
                        f"{tuple(tail_mass.shape)}: the head's num_classes must be the store's.")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_prob, tail_mass = log_prob.to(dtype), tail_mass.to(dtype)
    num_classes = logits.shape[1]
    prob, rest = recovered_target(log_prob, tail_mass, num_classes - index.shape[1], temperature)
    excess = (1 - label_smoothing) * (prob - rest[:, None])
    rest = (1 - label_smoothing) * rest + label_smoothing / num_classes
    if torch.is_grad_enabled() and logits.requires_grad and not torch.compiler.is_compiling():
        loss = _SparseCrossEntropy.apply(logits, index, excess, rest, temperature)
    else:  # the compiler fuses this by itself
        loss = _cross_entropy(logits.to(dtype) / temperature, index, excess, rest)
    return loss * temperature**2


@MODELS.register_module()
class SparseSoftTargetLoss(nn.Module):
    """The mean of :func:`sparse_soft_target_loss` over the batch, times a weight.

    Args:
        temperature: See :func:`sparse_soft_target_loss`.
        loss_weight: Factor.
        label_smoothing: See :func:`sparse_soft_target_loss`.
    """

    def __init__(self, temperature: float = 1., loss_weight: float = 1., label_smoothing: float = 0.) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f'temperature={temperature} of SparseSoftTargetLoss must be above 0.')
        if not 0 <= label_smoothing < 1:
            raise UserError(f'label_smoothing={label_smoothing} of SparseSoftTargetLoss must lie between 0 and 1.')
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, index: Tensor, log_prob: Tensor, tail_mass: Tensor) -> Tensor:
        """Shapes as for :func:`sparse_soft_target_loss`; returns a scalar."""
        loss = sparse_soft_target_loss(logits, index, log_prob, tail_mass, self.temperature, self.label_smoothing)
        return loss.mean() * self.loss_weight
