"""The Former: a transformer block for a handful of tokens."""
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .bridges import split_heads

__all__ = ['Former']


class Former(nn.Module):
    """Self-attention whose keys and values are the tokens as they are, and an MLP; LayerNorm behind each sum.

    Args:
        token_dims: Width D.
        num_heads: Heads.
        mlp_ratio: Hidden width over width.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, token_dims: int, num_heads: int = 4, mlp_ratio: float = 2., drop_path: float = 0.):
        super().__init__()
        self.num_heads = num_heads
        hidden = int(token_dims * mlp_ratio)
        self.query = nn.Linear(token_dims, token_dims)
        self.proj = nn.Linear(token_dims, token_dims)
        self.norm1 = nn.LayerNorm(token_dims)
        self.fc1 = nn.Linear(token_dims, hidden)
        self.fc2 = nn.Linear(hidden, token_dims)
        self.norm2 = nn.LayerNorm(token_dims)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, T, D)`` to tokens."""
        query = self.query(tokens)
        known = split_heads(tokens.to(query.dtype), self.num_heads)  # (B, heads, T, D/heads)
        mixed = F.scaled_dot_product_attention(split_heads(query, self.num_heads), known, known)
        tokens = self.norm1(tokens + self.drop_path(self.proj(mixed.transpose(1, 2).flatten(2))))
        return self.norm2(tokens + self.drop_path(self.fc2(F.gelu(self.fc1(tokens)))))
