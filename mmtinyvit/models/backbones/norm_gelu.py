"""BatchNorm and GELU as one step of autograd that keeps one map rather than two."""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .watched import is_recorded

__all__ = ['can_join', 'is_plain', 'norm_gelu']

ALL = (True, True, True)  # gradients of input, weight and bias


def can_join(norm: nn.Module, x: Tensor) -> bool:
    """Whether :func:`norm_gelu` stands for ``gelu(norm(x))``: a plain BatchNorm in training, on the CPU, in eager mode.

    A GPU has fused kernels of its own behind ``nn.BatchNorm2d``, and so has the compiler. In bfloat16, where maps are
    half as large, computing one again takes longer than keeping it.
    """
    if torch.is_autocast_enabled('cpu') or x.dtype == torch.bfloat16:
        return False
    return (is_plain(norm) and x.device.type == 'cpu' and not is_recorded())


def is_plain(norm: nn.Module) -> bool:
    """Whether ``norm`` is PyTorch's own, in training, with an exponential average of the statistics."""
    return (type(norm) is nn.BatchNorm2d and norm.training and norm.affine and norm.track_running_stats
            and norm.momentum is not None)


def norm_gelu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """``gelu(norm(x))`` with batch statistics, which also updates the running ones.

    The output of the norm is computed again in the backward pass, one multiplication and addition per value: of a
    convolution, a norm and a GELU two maps are kept instead of three.

    Args:
        norm: A norm for which :func:`can_join` holds.
        x: Channels-last map ``(B, C, H, W)``.
    """
    norm.num_batches_tracked.add_(1)
    return _NormGelu.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)


class _NormGelu(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps):
        y, mean, rstd = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.eps = eps
        torch.ops.aten.gelu_(y.permute(0, 2, 3, 1))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias, mean, rstd = ctx.saved_tensors
        y = torch.native_batch_norm(x, weight, bias, mean, rstd**-2 - ctx.eps, False, 0., ctx.eps)[0]
        tokens = y.permute(0, 2, 3, 1)
        torch.ops.aten.gelu_backward.grad_input(grad.permute(0, 2, 3, 1), tokens, grad_input=tokens)  # now in y
        grads = torch.ops.aten.native_batch_norm_backward(y, x, weight, None, None, mean, rstd, True, ctx.eps, ALL)
        return *grads, None, None, None, None
