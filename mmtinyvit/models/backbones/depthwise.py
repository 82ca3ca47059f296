"""Strided depthwise convolution that learns as fast in bfloat16 as in float32."""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

__all__ = ['StridedDepthwiseConv2d', 'depthwise_grads']


class StridedDepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one group per channel and a stride.

    In bfloat16 on the CPU the gradient of its input is computed in float32: oneDNN has no fast kernel for it in
    bfloat16, and takes 15 to 130 times as long there.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
        if x.device.type != 'cpu' or dtype != torch.bfloat16 or not (x.requires_grad and torch.is_grad_enabled()):
            return super()._conv_forward(x, weight, bias)
        y = _DepthwiseConv.apply(x.to(dtype), weight.to(dtype), self.stride, self.padding)
        return y if bias is None else y + bias.to(dtype)[:, None, None]


class _DepthwiseConv(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding
        return nn.functional.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *depthwise_grads(grad, *ctx.saved_tensors, *ctx.options), None, None


def depthwise_grads(grad: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int],
                    padding: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``weight`` of a depthwise convolution without bias, on the CPU."""
    options = dict(stride=stride, padding=padding, groups=len(weight))
    wide = torch.promote_types(grad.dtype, torch.float32) if max(stride) > 1 else grad.dtype
    grad_x = conv2d_input(x.shape, weight.to(wide), grad.to(wide), **options).to(x.dtype)
    return grad_x, conv2d_weight(x, weight.shape, grad, **options)
