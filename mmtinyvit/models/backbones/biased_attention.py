"""Attention with a learnt bias, in training on a CPU."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ['biased_attention']

PIECE = 2**23  # bytes of scores that stay in the cache


def biased_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """``softmax(q @ k' / sqrt(D) + bias) @ v``, with gradients for all.

    PyTorch's fused kernel for the CPU has no gradient for the bias. Here the scores are made a few windows at a time,
    become probabilities in their own memory, and so do their gradients on the way back.

    Args:
        qkv: Query, key and value ``(3, windows, heads, N, D)``.
        bias: ``(1, heads, N, N)``, of the same type.

    Returns:
        ``(windows, heads, N, D)``.
    """
    return _BiasedAttention.apply(qkv, bias)


class _BiasedAttention(torch.autograd.Function):

    @staticmethod
    @torch.autocast('cpu', enabled=False)
    def forward(ctx, qkv, bias):
        qkv = qkv.clone(memory_format=torch.contiguous_format)  # one copy where the products would make three
        q, k, v = qkv
        q *= q.shape[-1]**-0.5
        # an even number, which two threads can share: the products are spread over windows and heads
        windows = 2 * max(1, PIECE // (2 * bias.nbytes))
        out, kept = torch.empty_like(v), []
        for q, k, v, y in zip(*(x.split(windows) for x in (*qkv, out)), strict=True):
            attn = q @ k.transpose(-2, -1)  # (windows, heads, N, N)
            attn += bias
            torch._softmax(attn, -1, False, out=attn)
            torch.bmm(attn.flatten(0, 1), v.flatten(0, 1), out=y.flatten(0, 1))
            kept.append(attn)
        ctx.save_for_backward(qkv, *kept)
        ctx.windows = windows
        return out

    @staticmethod
    @once_differentiable
    @torch.autocast('cpu', enabled=False)
    def backward(ctx, grad):
        qkv, *kept = ctx.saved_tensors
        grad_qkv, grad_bias = torch.empty_like(qkv), 0.
        parts = zip(*(x.split(ctx.windows) for x in (*qkv, *grad_qkv, grad.contiguous())), kept, strict=True)
        for q, k, v, grad_q, grad_k, grad_v, g, attn in parts:
            q, k, v, grad_q, grad_k, grad_v, g = (x.flatten(0, 1) for x in (q, k, v, grad_q, grad_k, grad_v, g))
            flat = attn.flatten(0, 1)
            torch.bmm(flat.transpose(1, 2), g, out=grad_v)
            scores = g @ v.transpose(1, 2)
            torch.ops.aten._softmax_backward_data.out(scores, flat, -1, scores.dtype, grad_input=scores)
            torch.bmm(scores, k, out=grad_q)
            torch.bmm(scores.transpose(1, 2), q, out=grad_k)
            grad_bias = grad_bias + scores.view_as(attn).sum(0, keepdim=True)
        grad_qkv[0] *= q.shape[-1]**-0.5
        return grad_qkv, grad_bias
