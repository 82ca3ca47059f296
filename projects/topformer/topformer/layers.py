"""The convolutions of TopFormer: with BatchNorm, and in inverted residuals."""
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['ConvNorm', 'InvertedResidual']


class ConvNorm(nn.Module):
    """Convolution without bias and BatchNorm.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel; the padding is half of it.
        stride: Stride; a map of side n becomes one of side ``ceil(n / stride)``.
        groups: Groups, ``in_channels`` for a depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (https://arxiv.org/abs/1801.04381) with ReLU instead of ReLU6.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the depthwise kernel.
        stride: Stride of the depthwise convolution.
        expand_ratio: Hidden width over ``in_channels``; with 1 the first convolution is left out.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expand_ratio: int):
        super().__init__()
        hidden = in_channels * expand_ratio
        self.expand = ConvNorm(in_channels, hidden) if expand_ratio != 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel_size, stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu(self.expand(x))
        out = self.project(F.relu(self.depthwise(hidden)))
        return x + out if self.residual else out
