"""The attentive half of TopFormer: what the whole image is about, and how the maps of the pyramid take it in."""
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .layers import ConvNorm

__all__ = ['SemanticsBlock', 'SemanticsInjection']


class Attention(nn.Module):
    """Self-attention between all positions of a map, made of 1x1 convolutions with BatchNorm.

    The logits are not divided by the square root of the key's width: so it is in the released code.
    """

    def __init__(self, dim: int, num_heads: int, key_dim: int, value_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = ConvNorm(dim, num_heads * key_dim)
        self.key = ConvNorm(dim, num_heads * key_dim)
        self.value = ConvNorm(dim, num_heads * value_dim)
        self.project = ConvNorm(num_heads * value_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # each (B, heads, H * W, width of a head)
        q, k, v = (layer(x).flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)
                   for layer in (self.query, self.key, self.value))
        out = F.scaled_dot_product_attention(q, k, v, scale=1.)
        return self.project(F.relu6(out.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))))


class FeedForward(nn.Module):
    """Two 1x1 convolutions and a depthwise 3x3 convolution with bias, but without BatchNorm, between them."""

    def __init__(self, dim: int, ratio: int):
        super().__init__()
        hidden = dim * ratio
        self.fc1 = ConvNorm(dim, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu6(self.depthwise(self.fc1(x))))


class SemanticsBlock(nn.Module):
    """One block of the Scale-aware Semantics Extractor: attention and feed-forward, without LayerNorm.

    Args:
        dim: Channels of the pooled pyramid.
        num_heads: Heads.
        key_dim: Width of queries and keys of a head.
        value_dim: Width of values of a head.
        mlp_ratio: Hidden width of the feed-forward over ``dim``.
        drop_path_rate: Stochastic depth of both branches.
    """

    def __init__(self, dim: int, num_heads: int, key_dim: int, value_dim: int, mlp_ratio: int, drop_path_rate: float):
        super().__init__()
        self.attn = Attention(dim, num_heads, key_dim, value_dim)
        self.ffn = FeedForward(dim, mlp_ratio)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(x))
        return x + self.drop_path(self.ffn(x))


class SemanticsInjection(nn.Module):
    """Semantics Injection Module: ``local * gate + semantics``, the latter two brought up to the local map's size.

    Args:
        channels: Channels of the local map and of its share of the semantics.
        out_channels: Channels out.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.local = ConvNorm(channels, out_channels)
        self.gate = ConvNorm(channels, out_channels)
        self.semantics = ConvNorm(channels, out_channels)

    def forward(self, local: Tensor, semantics: Tensor) -> Tensor:
        gate = F.hardsigmoid(self.gate(semantics))  # before it is enlarged, as in the original
        gate, semantics = (F.interpolate(each, local.shape[2:], mode='bilinear', align_corners=False)
                           for each in (gate, self.semantics(semantics)))
        return self.local(local) * gate + semantics
