"""The Mobile: inverted bottlenecks whose activations listen to the first token."""
import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.models.backbones.tiny_vit import ConvNorm

from .dynamic_relu import DynamicReLU

__all__ = ['DownMobile', 'LiteMobile', 'Mobile']


class ChannelShuffle(nn.Module):
    """Deal the channels of each group out to all groups, in operators that ONNX has."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.reshape(batch, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(batch, channels, height, width)


def shuffle(groups: int) -> nn.Module:
    """What carries channels over to the other groups; nothing without groups."""
    return ChannelShuffle(groups) if groups > 1 else nn.Identity()


class LiteMobile(nn.Module):
    """The first block, without tokens: a depthwise convolution that expands, and one that projects.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        expand: Hidden width over ``in_channels``.
        stride: Stride.
        groups: Groups of the 1 x 1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, expand: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, in_channels * expand, 3, stride, groups=in_channels)
        self.shuffle = shuffle(in_channels if groups > 1 else 1)
        self.conv2 = ConvNorm(in_channels * expand, out_channels, groups=groups)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.shuffle(F.relu6(self.conv1(x))))
        return x + out if self.residual else out


class Mobile(nn.Module):
    """The inverted bottleneck that keeps the map's size.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        expand: Hidden width over ``in_channels``.
        token_dims: Width of the token.
        groups: Groups of the 1 x 1 convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, expand: int, token_dims: int, groups: int = 1):
        super().__init__()
        hidden = in_channels * expand
        self.conv1 = ConvNorm(in_channels, hidden, groups=groups)
        self.act1 = DynamicReLU(hidden, token_dims)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.act2 = DynamicReLU(hidden, token_dims)
        self.conv3 = ConvNorm(hidden, out_channels, groups=groups)
        self.shuffle = shuffle(groups)
        self.residual = in_channels == out_channels

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and token ``(B, D)`` to a map ``(B, C', H, W)``."""
        out = self.act1(self.shuffle(self.conv1(x)), token)
        out = self.act2(self.conv2(out), token)
        out = self.shuffle(self.conv3(out))
        return x + out if self.residual else out


class DownMobile(nn.Module):
    """The block that halves the map, rounding up, and changes its channels; then a bottleneck with a residual.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        expand: Hidden width of the first half over ``in_channels``.
        second_expand: Hidden width of the second half over ``out_channels``.
        token_dims: Width of the token.
        groups: Groups of the 1 x 1 convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, expand: int, second_expand: int, token_dims: int,
                 groups: int = 1):
        super().__init__()
        hidden, second = in_channels * expand, out_channels * second_expand
        self.conv1 = ConvNorm(in_channels, hidden, 3, 2, groups=in_channels)
        self.shuffle1 = shuffle(in_channels if groups > 1 else 1)
        self.act1 = DynamicReLU(hidden, token_dims)
        self.conv2 = ConvNorm(hidden, out_channels, groups=groups)
        self.conv3 = ConvNorm(out_channels, second, 3, groups=out_channels)
        self.shuffle2 = shuffle(out_channels if groups > 1 else 1)
        self.act2 = DynamicReLU(second, token_dims)
        self.conv4 = ConvNorm(second, out_channels, groups=groups)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and token ``(B, D)`` to a map ``(B, C', ceil(H / 2), ceil(W / 2))``."""
        out = self.conv2(self.act1(self.shuffle1(self.conv1(x)), token))
        return out + self.conv4(self.act2(self.shuffle2(self.conv3(out)), token))
