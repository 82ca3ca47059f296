"""The widest part of TinyViT in training on a CPU: a bottleneck, a few images at a time."""
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .depthwise import depthwise_grads
from .norm_gelu import is_plain
from .watched import is_recorded, is_watched

__all__ = ['bottleneck', 'pays_in_pieces']

WIDE = 2**25  # bytes of a map; from there on glibc takes the memory of every tensor fresh from the system
PIECE = 2**22  # bytes of a map that stays in the cache
ATEN = torch.ops.aten


def pays_in_pieces(x: Tensor, parts: Sequence[nn.Module]) -> bool:
    """Whether :func:`bottleneck` takes less time than the three modules one after another.

    That is so in training on the CPU, in eager mode, where the maps between them are large. All norms must be plain
    ones that use the statistics of the batch, with float32 weights, in whose type the pieces' statistics are joined,
    and nobody may watch the modules.
    """
    if is_recorded() or not torch.is_grad_enabled():
        return False  # sizes may be symbols there, of which nothing must be asked
    return (x.device.type == 'cpu' and len(x) > 1 and _bytes(x, parts) >= WIDE
            and all(is_plain(part.bn) and part.bn.weight.dtype.itemsize >= 4 for part in parts)
            and not any(map(is_watched, parts)))


def bottleneck(x: Tensor, parts: Sequence[nn.Module]) -> Tensor:
    """``conv3(gelu(norm2(conv2(gelu(norm1(conv1(x)))))))``, which also updates the running statistics.

    Of the four wide maps in between, autograd keeps two, the outputs of the convolutions, as one tensor for each few
    images: these, and what the backward pass computes from them again, fit the cache, and they are small enough for
    memory that was used before, where fresh pages would cost more than all arithmetic but the convolutions.

    Args:
        x: Channels-last map ``(B, C, H, W)``.
        parts: Three :class:`ConvNorm`: pointwise, depthwise of any stride, pointwise. The last one's norm is left to
            the caller.
    """
    conv1, conv2, conv3 = (part.conv for part in parts)
    norm1, norm2, _ = (part.bn for part in parts)
    images = max(1, PIECE * len(x) // _bytes(x, parts))
    return _Bottleneck.apply(x, _dtype(x), images, (norm1, norm2), conv2.stride, conv1.weight, norm1.weight, norm1.bias,
                             conv2.weight, norm2.weight, norm2.bias, conv3.weight)


def _bytes(x: Tensor, parts: Sequence[nn.Module]) -> int:
    """Bytes of the widest map."""
    return x.numel() // x.shape[1] * parts[0].conv.out_channels * _dtype(x).itemsize


def _dtype(x: Tensor) -> torch.dtype:
    """The type in which a convolution of ``x`` computes."""
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


class _Bottleneck(torch.autograd.Function):

    @staticmethod
    @torch.autocast('cpu', enabled=False)
    def forward(ctx, x, dtype, images, norms, stride, *params):
        w1, gamma1, beta1, w2, gamma2, beta2, w3 = params
        c1, c2, c3 = (w.to(dtype) for w in (w1, w2, w3))
        ctx.dtype = x.dtype
        x = x.to(dtype)
        x1, statistics1 = _convolve(lambda piece: F.conv2d(piece, c1), x.split(images), norms[0])
        norm1 = _PieceNorm(gamma1, beta1, norms[0].eps, *statistics1)
        x2, statistics2 = _convolve(lambda piece: F.conv2d(norm1.gelu(piece)[1], c2, None, stride, 1, 1, len(c2)), x1,
                                    norms[1])
        norm2 = _PieceNorm(gamma2, beta2, norms[1].eps, *statistics2)
        y = torch.empty((len(x), len(c3), *x2[0].shape[2:]), dtype=dtype, memory_format=torch.channels_last)
        for out, piece in zip(y.split(images), x2, strict=True):
            out.copy_(F.conv2d(norm2.gelu(piece)[1], c3))
        ctx.save_for_backward(x, *params, norm1.mean, norm1.var, norm2.mean, norm2.var, *x1, *x2)
        ctx.images, ctx.stride, ctx.eps = images, stride, [norm.eps for norm in norms]
        return y

    @staticmethod
    @once_differentiable
    @torch.autocast('cpu', enabled=False)
    def backward(ctx, grad):
        x, w1, gamma1, beta1, w2, gamma2, beta2, w3, mean1, var1, mean2, var2, *pieces = ctx.saved_tensors
        x1, x2 = pieces[:len(pieces) // 2], pieces[len(pieces) // 2:]
        norm1 = _PieceNorm(gamma1, beta1, ctx.eps[0], mean1, var1)
        norm2 = _PieceNorm(gamma2, beta2, ctx.eps[1], mean2, var2)
        c1, c2, c3 = (w.to(x.dtype) for w in (w1, w2, w3))
        d1, d2, d3 = (torch.zeros_like(w) for w in (w1, w2, w3))
        grads = list(grad.split(ctx.images))
        for i, piece in enumerate(x2):
            z, y = norm2.gelu(piece)
            grad_y, d = _pointwise_grads(grads[i], y, c3)
            d3 += d
            grads[i] = norm2.gelu_grad(grad_y, z, piece)
        for i, piece in enumerate(x1):
            z, y = norm1.gelu(piece)
            grad_y, d = depthwise_grads(norm2.grad(grads[i], x2[i]), y, c2, ctx.stride, (1, 1))
            d2 += d
            grads[i] = norm1.gelu_grad(grad_y, z, piece)
        grad_x = torch.empty_like(x, dtype=ctx.dtype)
        for i, (out, piece) in enumerate(zip(grad_x.split(ctx.images), x.split(ctx.images), strict=True)):
            grad_piece, d = _pointwise_grads(norm1.grad(grads[i], x1[i]), piece, c1)
            d1 += d
            out.copy_(grad_piece)
        return (grad_x, None, None, None, None, d1, norm1.grad_weight, norm1.grad_bias, d2, norm2.grad_weight,
                norm2.grad_bias, d3)


class _PieceNorm:
    """BatchNorm and GELU of pieces of a batch, with the statistics of the whole batch."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float, mean: Tensor, var: Tensor):
        self.weight, self.bias, self.eps, self.mean, self.var = weight, bias, eps, mean, var
        self.rstd = (var + eps).rsqrt()
        self.grad_weight, self.grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        self.values = 0  # per channel, seen by gelu_grad

    def gelu(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised piece, and its GELU."""
        z = torch.native_batch_norm(x, self.weight, self.bias, self.mean, self.var, False, 0., self.eps)[0]
        return z, _map(F.gelu(_tokens(z)))

    def gelu_grad(self, grad: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """The gradient of the normalised piece ``z`` in the memory of ``grad``, its share of the weights' counted."""
        ATEN.gelu_backward.grad_input(_tokens(grad), _tokens(z), grad_input=_tokens(grad))
        _, weight, bias = ATEN.native_batch_norm_backward(grad, x, self.weight, None, None, self.mean, self.rstd, True,
                                                          self.eps, (False, True, True))
        self.grad_weight += weight
        self.grad_bias += bias
        self.values += x.numel() // x.shape[1]
        return grad

    def grad(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient of a piece ``x``, after :meth:`gelu_grad` of all pieces."""
        scale = self.weight * self.rstd
        slope = -scale * self.rstd * self.grad_weight / self.values
        shift = -scale * self.grad_bias / self.values - slope * self.mean
        return _map(torch.addcmul(shift, _tokens(x), slope).addcmul_(_tokens(grad), scale).to(x.dtype))


def _convolve(convolution: Callable[[Tensor], Tensor], pieces: Sequence[Tensor],
              norm: nn.BatchNorm2d) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """The convolved pieces, and mean and biased variance of all, by which the running ones of ``norm`` are updated."""
    still = norm.running_mean.clone(), norm.running_var.clone()
    outs, moments = [], []
    for piece in pieces:
        outs.append(convolution(piece))
        moments.append(torch.batch_norm_update_stats(outs[-1], *still, 0.))
    means, variances = map(torch.stack, zip(*moments, strict=True))
    share = means.new_tensor([len(x) for x in pieces])[:, None] / sum(map(len, pieces))
    mean = (share * means).sum(0)
    var = (share * (variances + (means - mean).square())).sum(0)
    num = sum(x.numel() for x in outs) // len(mean)
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_((var * num / (num - 1)).to(norm.running_var.dtype), norm.momentum)
    return outs, (mean, var)


def _pointwise_grads(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return ATEN.convolution_backward(grad, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
                                     (True, True, False))[:2]


def _tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _map(tokens: Tensor) -> Tensor:
    return tokens.permute(0, 3, 1, 2)
