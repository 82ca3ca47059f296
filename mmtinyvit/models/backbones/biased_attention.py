"""Attention with a learnt bias, on a CPU."""
from math import ceil

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ['biased_attention']

PIECE = 2**23  # bytes of scores made at once


def biased_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """``softmax(q @ k' / sqrt(D) + bias) @ v``, with gradients for all.

    PyTorch's fused kernel for the CPU has no gradient for the bias, and is slow on small windows and in bfloat16. Here
    the scores are made a few windows at a time, become probabilities in their own memory, and so do their gradients on
    the way back.

    Args:
        qkv: Query, key and value ``(3, windows, heads, N, D)``.
        bias: ``(1, heads, N, N)``, of the same type.

    Returns:
        ``(windows, heads, N, D)``.
    """
    if torch.is_grad_enabled() and (qkv.requires_grad or bias.requires_grad):
        return _BiasedAttention.apply(qkv, bias)
    qkv = _scaled(qkv)
    out = torch.empty_like(qkv[0])
    _, num_heads, N, _ = bias.shape
    fit = max(1, PIECE // bias[0, 0].nbytes)  # windows times heads
    heads = min(fit, num_heads)
    pieces = max(1, ceil(len(out) * heads / fit))
    windows = max(1, ceil(len(out) / pieces))
    scores = qkv.new_empty(windows * heads, N, N)  # all pieces take turns in this memory
    for piece in zip(*(x.split(windows) for x in (*qkv, out)), strict=True):
        for *parts, some in zip(*(x.split(heads, 1) for x in (*piece, bias)), strict=True):
            _attend(*parts, some, scores)
    return out


class _BiasedAttention(torch.autograd.Function):

    @staticmethod
    @torch.autocast('cpu', enabled=False)
    def forward(ctx, qkv, bias):
        qkv = _scaled(qkv)
        out = torch.empty_like(qkv[0])
        # an even number of windows, which two threads can share: the products are spread over windows and heads
        ctx.windows, kept = 2 * max(1, PIECE // (2 * bias.nbytes)), []
        for piece in zip(*(x.split(ctx.windows) for x in (*qkv, out)), strict=True):
            kept.append(_attend(*piece, bias, qkv.new_empty(len(piece[0]) * bias.shape[1], *bias.shape[2:])))
        ctx.save_for_backward(qkv, *kept)
        return out

    @staticmethod
    @once_differentiable
    @torch.autocast('cpu', enabled=False)
    def backward(ctx, grad):
        qkv, *kept = ctx.saved_tensors
        grad_qkv = torch.empty_like(qkv)
        wide = torch.promote_types(qkv.dtype, torch.float32)  # a sum over the pieces, rounded once
        grad_bias = torch.zeros(1, qkv.shape[2], *kept[0].shape[1:], dtype=wide)
        pieces = zip(*(x.split(ctx.windows) for x in (*qkv, *grad_qkv, grad.contiguous())), strict=True)
        for piece, attn in zip(pieces, kept, strict=True):
            q, k, v, grad_q, grad_k, grad_v, g = (x.flatten(0, 1) for x in piece)
            torch.bmm(attn.transpose(1, 2), g, out=grad_v)
            scores = g @ v.transpose(1, 2)
            torch.ops.aten._softmax_backward_data.out(scores, attn, -1, scores.dtype, grad_input=scores)
            torch.bmm(scores, k, out=grad_q)
            torch.bmm(scores.transpose(1, 2), q, out=grad_k)
            grad_bias += scores.unflatten(0, (-1, qkv.shape[2])).sum(0, dtype=wide)
        grad_qkv[0] *= qkv.shape[-1]**-0.5
        return grad_qkv, grad_bias.to(qkv.dtype)


def _scaled(qkv: Tensor) -> Tensor:
    """A contiguous copy of ``qkv`` with a scaled query."""
    qkv = qkv.clone(memory_format=torch.contiguous_format)
    qkv[0] *= qkv.shape[-1]**-0.5
    return qkv


def _attend(q: Tensor, k: Tensor, v: Tensor, out: Tensor, bias: Tensor, scores: Tensor) -> Tensor:
    """Write the result for a few windows and heads into ``out``.

    Args:
        q, k, v, out: ``(windows, heads, N, D)``; the query is scaled.
        bias: ``(1, heads, N, N)``.
        scores: Memory for ``(windows * heads, N, N)`` or more.

    Returns:
        The probabilities ``(windows * heads, N, N)``, in the memory of ``scores``.
    """
    q, k, v, out = (x.flatten(0, 1) for x in (q, k, v, out))
    attn = torch.bmm(q, k.transpose(1, 2), out=scores[:len(q)])
    attn.unflatten(0, (-1, bias.shape[1])).add_(bias)
    torch._softmax(attn, -1, False, out=attn)
    torch.bmm(attn, v, out=out)
    return attn
