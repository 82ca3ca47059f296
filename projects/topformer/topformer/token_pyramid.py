"""The convolutional half of TopFormer: maps at four strides, and their average at the coarsest."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNorm, InvertedResidual

__all__ = ['TokenPyramid', 'pool_pyramid']


class TokenPyramid(nn.Module):
    """Token Pyramid Module: inverted residuals, tapped before each halving from stride 4 on.

    Args:
        in_channels: Channels of the image.
        blocks: For each inverted residual its kernel, expansion, output channels and stride.
        taps: Indices of the four blocks whose outputs are given.
        stem_channels: Channels behind the first convolution, at stride 2.
    """

    def __init__(self, in_channels: int, blocks: Sequence[tuple[int, int, int, int]], taps: Sequence[int],
                 stem_channels: int = 16):
        super().__init__()
        self.taps = tuple(taps)
        self.stem = ConvNorm(in_channels, stem_channels, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = stem_channels
        for kernel, expansion, out_channels, stride in blocks:
            self.blocks.append(InvertedResidual(channels, out_channels, kernel, stride, expansion))
            channels = out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(x))  # (B, 16, H/2, W/2)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps  # (B, C, H/4, W/4) ... (B, C, H/32, W/32)


def pool_pyramid(maps: Sequence[Tensor], stride: int) -> Tensor:
    """Average all maps to the size of the last one divided by ``stride``, rounded up, and join their channels."""
    height, width = (-(-side // stride) for side in _sides(maps[-1]))
    return torch.cat([_average(each, height, width) for each in maps], dim=1)


def _average(x: Tensor, height: int, width: int) -> Tensor:
    """Adaptive average pooling; where the regions are all alike, as plain pooling, which every ONNX runtime has."""
    rows, columns = _sides(x)
    if rows % height == 0 and columns % width == 0:
        return F.avg_pool2d(x, (rows // height, columns // width))
    return F.adaptive_avg_pool2d(x, (height, width))


def _sides(x: Tensor) -> Sequence[int]:
    """Rows and columns; plain numbers where torch.jit.trace makes tensors of them, which ONNX cannot pool to."""
    return [int(side) for side in x.shape[2:]] if torch.jit.is_tracing() else x.shape[2:]
