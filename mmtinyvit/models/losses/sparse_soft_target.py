"""Cross-entropy against a teacher's top K classes and tail, without a (B, C) target."""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .teacher_record import recovered_target

__all__ = ['SparseSoftTargetLoss', 'sparse_soft_target_loss']


class _SparseCrossEntropy(torch.autograd.Function):
    """L_b = s_b logsumexp(z_b) - sum_k (p_bk - m_b) z_bk - m_b sum_c z_bc, with s_b the target's sum.

    The backward pass recomputes softmax(z) from z and its logsumexp, so that between the passes nothing of size (B, C)
    is kept but the logits themselves.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, index: Tensor, prob: Tensor, rest: Tensor) -> Tensor:
        z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        lse = z.logsumexp(1)  # (B,)
        excess = prob - rest[:, None]  # (B, K)
        total = excess.sum(1) + rest * z.shape[1]  # (B,)
        loss = total * lse - (excess * z.gather(1, index)).sum(1) - rest * z.sum(1)
        ctx.save_for_backward(logits, index, excess, rest, total, lse)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        logits, index, excess, rest, total, lse = ctx.saved_tensors
        z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        out = (z - lse[:, None]).exp_()  # softmax, (B, C)
        out.mul_((grad * total)[:, None]).sub_((grad * rest)[:, None])
        out.scatter_add_(1, index, excess * -grad[:, None])
        return out.to(logits.dtype), None, None, None


def sparse_soft_target_loss(logits: Tensor,
                            index: Tensor,
                            log_prob: Tensor,
                            tail_mass: Tensor,
                            temperature: float = 1.) -> Tensor:
    """Cross-entropy of a student against the recovered target of a teacher.

    The target is p_k on the K stored classes and the tail mass spread evenly on the other C - K (Wu et al., TinyViT,
    ECCV 2022, section 3.2). Its gradient is that of the Kullback-Leibler divergence. Computed in float32 or better.

    Args:
        logits: Of the student, ``(B, C)``.
        index: Stored classes, ``(B, K)`` int64.
        log_prob: Their log-probabilities, ``(B, K)``.
        tail_mass: Probability of all other classes together, ``(B,)``.
        temperature: Flattens teacher and student alike; the loss is multiplied by its square (Hinton et al., 2015).

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
    others = logits.shape[1] - index.shape[1]
    prob, rest = recovered_target(log_prob, tail_mass, others, temperature)
    if temperature != 1:
        logits = logits / temperature
    return _SparseCrossEntropy.apply(logits, index, prob, rest) * temperature**2


@MODELS.register_module()
class SparseSoftTargetLoss(nn.Module):
    """The mean of :func:`sparse_soft_target_loss` over the batch, times a weight.

    Args:
        temperature: See :func:`sparse_soft_target_loss`.
        loss_weight: Factor.
    """

    def __init__(self, temperature: float = 1., loss_weight: float = 1.) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f'temperature={temperature} of SparseSoftTargetLoss must be above 0.')
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, index: Tensor, log_prob: Tensor, tail_mass: Tensor) -> Tensor:
        """Shapes as for :func:`sparse_soft_target_loss`; returns a scalar."""
        loss = sparse_soft_target_loss(logits, index, log_prob, tail_mass, self.temperature)
        return loss.mean() * self.loss_weight
