"""The parts of TinyViT: convolution with norm, stem, MBConv, down-sampling, MLP, transformer block and stage.

Every part takes and gives maps ``(B, C, H, W)`` in channels-last memory, in which ``(B, H, W, C)`` tokens are a view:
convolutions and linear layers follow one another without a copy.
"""
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .bottleneck import bottleneck, pays_in_pieces
from .depthwise import StridedDepthwiseConv2d
from .gelu import gelu_map
from .norm_gelu import can_join, norm_gelu
from .token_linear import TokenLinear
from .window_attention import WindowAttention

__all__ = ['ConvNorm', 'MBConv', 'Mlp', 'PatchEmbed', 'PatchMerging', 'Stage', 'TinyViTBlock']


class ConvNorm(nn.Module):
    """Convolution without bias and BatchNorm.

    Where the norm is in eval mode it is an affine map of constants, and is folded into the weight on the fly: that
    costs one multiplication per weight rather than one per pixel, and keeps all gradients.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel; the padding is half of it.
        stride: Stride.
        groups: Groups, ``in_channels`` for a depthwise convolution.
        norm_weight: Initial weight of the norm; 0 starts a residual branch as the identity.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 1,
                 stride: int = 1,
                 groups: int = 1,
                 norm_weight: float = 1.):
        super().__init__()
        conv = StridedDepthwiseConv2d if stride > 1 and groups == in_channels == out_channels else nn.Conv2d
        self.conv = conv(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        # so that the stem gives channels-last maps without a copy of the images, which autograd would keep
        self.conv.to(memory_format=torch.channels_last)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, norm_weight)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.bn, nn.Identity):
            return self.conv(x)
        if self.bn.training:
            return self.bn(self.conv(x))
        weight, bias = self.folded()
        return self.conv._conv_forward(x, weight, bias)

    def gelu(self, x: Tensor) -> Tensor:
        """The module and a GELU behind it."""
        if torch.is_grad_enabled() and can_join(self.bn, x):
            return norm_gelu(self.bn, self.conv(x))
        return gelu_map(self(x))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that equals this module in eval mode."""
        scale = self.bn.weight * (self.bn.running_var + self.bn.eps).rsqrt()
        return self.conv.weight * scale[:, None, None, None], self.bn.bias - self.bn.running_mean * scale

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the norm into the convolution for good."""
        if isinstance(self.bn, nn.Identity):
            return
        weight, bias = self.folded()
        self.conv.weight = nn.Parameter(weight, requires_grad=self.conv.weight.requires_grad)
        self.conv.bias = nn.Parameter(bias, requires_grad=self.conv.weight.requires_grad)
        self.bn = nn.Identity()


class PatchEmbed(nn.Module):
    """Stem: two 3x3 convolutions of stride 2."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels // 2, 3, stride=2)
        self.conv2 = ConvNorm(out_channels // 2, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1.gelu(x))


class MBConv(nn.Module):
    """Inverted bottleneck with a GELU behind the sum."""

    def __init__(self, channels: int, expand_ratio: float, drop_path: float):
        super().__init__()
        hidden = int(channels * expand_ratio)
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels, norm_weight=0.)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return gelu_map(self.drop_path(_run_bottleneck(self, x)).add_(x))


class PatchMerging(nn.Module):
    """Halve the side of a map, rounding up, and change its channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels)
        self.conv2 = ConvNorm(out_channels, out_channels, 3, stride=2, groups=out_channels)
        self.conv3 = ConvNorm(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return _run_bottleneck(self, x)


def _run_bottleneck(module: MBConv | PatchMerging, x: Tensor) -> Tensor:
    parts = [module.conv1, module.conv2, module.conv3]
    if pays_in_pieces(x, parts):
        return module.conv3.bn(bottleneck(x, parts))
    return module.conv3(module.conv2.gelu(module.conv1.gelu(x)))


class Mlp(nn.Module):
    """LayerNorm and two linear layers, on tokens ``(..., C)``."""

    def __init__(self, dim: int, ratio: float):
        super().__init__()
        hidden = int(dim * ratio)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = TokenLinear(dim, hidden)
        self.fc2 = TokenLinear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1.gelu(self.norm(x)))


class TinyViTBlock(nn.Module):
    """Window attention, a 3x3 depthwise convolution, and an MLP."""

    def __init__(self, dim: int, num_heads: int, window_size: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.attn = WindowAttention(dim, num_heads, window_size)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim, mlp_ratio)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = _on_tokens(lambda tokens: tokens + self.drop_path(self.attn(tokens)), x)
        x = self.local_conv(x)
        return _on_tokens(lambda tokens: self.drop_path(self.mlp(tokens)).add_(tokens), x)


def _on_tokens(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Down-sampling, where there is one, and blocks."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], with_cp: bool):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = self.run(block, x)
        return x

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run one of the blocks, recomputed in the backward pass where ``with_cp`` says so."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _recompute(block)))
        return block(x)


@contextmanager
def _recompute(block: nn.Module):
    """Keep the running statistics still: the forward pass has counted this batch already."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
