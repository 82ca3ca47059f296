"""The two bridges: light cross-attention between the map's pixels and the tokens, without projections of the map."""
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

__all__ = ['FormerToMobile', 'MobileToFormer', 'split_heads']


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """``(B, N, C)`` to ``(B, heads, N, C / heads)``."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


class MobileToFormer(nn.Module):
    """The tokens look at the map: they ask, the pixels are keys and values as they are.

    Args:
        channels: Channels C of the map.
        token_dims: Width D of the tokens.
        num_heads: Heads.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, channels: int, token_dims: int, num_heads: int = 2, drop_path: float = 0.):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(token_dims, channels)
        self.gate = nn.Linear(token_dims, channels)
        self.proj = nn.Linear(channels, token_dims)
        self.norm = nn.LayerNorm(token_dims)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and tokens ``(B, T, D)`` to tokens."""
        pixels = split_heads(x.flatten(2).transpose(1, 2), self.num_heads)  # (B, heads, H*W, C/heads)
        query = split_heads(self.query(tokens).to(pixels.dtype), self.num_heads)  # (B, heads, T, C/heads)
        seen = F.scaled_dot_product_attention(query, pixels, pixels).transpose(1, 2).flatten(2)  # (B, T, C)
        seen = seen * (2 * F.hardsigmoid(self.gate(tokens)))
        return self.norm(tokens + self.drop_path(self.proj(seen)))


class FormerToMobile(nn.Module):
    """The map looks at the tokens: its pixels ask as they are, and what they hear is added to them.

    Args:
        channels: Channels C of the map.
        token_dims: Width D of the tokens.
        num_heads: Heads.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, channels: int, token_dims: int, num_heads: int = 2, drop_path: float = 0.):
        super().__init__()
        self.num_heads = num_heads
        self.key = nn.Linear(token_dims, channels)
        self.value = nn.Linear(token_dims, channels)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and tokens ``(B, T, D)`` to a map."""
        key, value = (split_heads(layer(tokens).to(x.dtype), self.num_heads) for layer in (self.key, self.value))
        query = split_heads(x.flatten(2).transpose(1, 2), self.num_heads)  # (B, heads, H*W, C/heads)
        heard = F.scaled_dot_product_attention(query, key, value)  # (B, heads, H*W, C/heads)
        heard = heard.transpose(2, 3).reshape(x.shape)  # (B, C, H, W)
        return x + self.drop_path(heard)
