"""Attention inside square windows, with one learnt bias per head and offset, over maps of any size.

The idea of the attention bias is LeViT's (https://arxiv.org/abs/2104.01136), that of the windows Swin's; TinyViT joins
the two without shifting the windows, because a depthwise convolution behind each attention lets them talk.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .biased_attention import biased_attention
from .derived import Derived
from .token_linear import TokenLinear
from .watched import is_recorded

__all__ = ['WindowAttention']


class WindowAttention(nn.Module):
    """Multi-head self-attention of every ``window_size`` x ``window_size`` window of a map, without the residual.

    The original pads a map with zeros on the right and at the bottom until windows fill it, *before* the LayerNorm
    and unmasked, so the padding takes part as a key. This module gives the same result without computing on padding:
    all padded tokens of a window are the same vector, ``LayerNorm(0) = norm.bias``, hence the same key and value, and
    softmax over n equal keys that differ only in their bias is softmax over one of them with the bias
    ``logsumexp(bias_1, ..., bias_n)``. A window at the border therefore holds its real tokens and one more.

    Args:
        dim: Channels, ``num_heads`` times the width of a head.
        num_heads: Number of heads.
        window_size: Side of a window in tokens.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int):
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = TokenLinear(dim, 3 * dim)
        self.proj = TokenLinear(dim, dim)
        # bias of the offset (dy, dx) at column dy * window_size + dx: only the distance counts, not its sign
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        self._gathered = Derived()

    def train(self, mode: bool = True) -> 'WindowAttention':
        self._gathered.clear()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Attend in every window of ``x``.

        Args:
            x: Tokens of the map, ``(B, H, W, C)``.

        Returns:
            ``(B, H, W, C)``.
        """
        x = self.norm(x)
        rows = [self._columns(part) for part in self._cut(x, dim=1)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def _columns(self, x: Tensor) -> Tensor:
        parts = [self._attend_region(part) for part in self._cut(x, dim=2)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _cut(self, x: Tensor, dim: int) -> list[Tensor]:
        """Cut ``x`` into the part that whole windows cover and the rest."""
        size = x.shape[dim]
        rest = size % self.window_size
        if rest in (0, size):
            return [x]
        return list(x.split([size - rest, rest], dim))

    def _attend_region(self, x: Tensor) -> Tensor:
        """Attend in a region whose windows all have the same number of real tokens."""
        B, H, W, C = x.shape
        h, w = min(H, self.window_size), min(W, self.window_size)
        windows = x.reshape(B, H // h, h, W // w, w, C).transpose(2, 3)  # (B, rows, columns, h, w, C)
        tokens = windows.reshape(-1, h * w, C)
        whole = h == w == self.window_size
        if not whole:
            padding = self.norm.bias.to(x.dtype).expand(tokens.shape[0], 1, C)
            tokens = torch.cat([tokens, padding], dim=1)
        tokens = self._attend(tokens, self._bias(h, w))
        if not whole:
            tokens = tokens[:, :-1]
        tokens = self.proj(tokens)
        return tokens.reshape(B, H // h, W // w, h, w, C).transpose(2, 3).reshape(B, H, W, C)

    def _attend(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Multi-head attention over ``tokens`` ``(windows, N, C)`` with ``bias`` ``(1, heads, N, N)``."""
        n, N, C = tokens.shape
        # one head's query, key and value lie side by side in the published weights
        qkv = self.qkv(tokens).view(n, N, self.num_heads, 3, -1).permute(3, 0, 2, 1, 4)  # (3, n, heads, N, C / heads)
        bias = bias.to(qkv.dtype)
        if bias.device.type != 'cpu' or not (bias.requires_grad or bias.dtype == torch.bfloat16 or N < 256):
            x = F.scaled_dot_product_attention(*qkv, attn_mask=bias)  # has no gradient for the bias on the CPU
        elif is_recorded():
            q, k, v = qkv.contiguous().unbind()  # one copy where the products would make three
            x = (q @ k.transpose(-2, -1) * q.shape[-1]**-0.5 + bias).softmax(-1) @ v  # so q is kept once, unscaled
        else:
            x = biased_attention(qkv, bias)
        return x.transpose(1, 2).reshape(n, N, C)

    def _bias(self, h: int, w: int) -> Tensor:
        """Bias for a window with ``h`` x ``w`` real tokens, ``(1, heads, N, N)``; gathered once if it is constant."""
        table = self.attention_biases
        if is_recorded() or (table.requires_grad and torch.is_grad_enabled()):
            return self._gather_bias(h, w)
        return self._gathered.get((h, w), table, lambda: self._gather_bias(h, w))

    def _gather_bias(self, h: int, w: int) -> Tensor:
        size = self.window_size
        side = torch.arange(size, device=self.attention_biases.device)
        offset = (side[:, None] - side).abs()  # (size, size)
        table = self.attention_biases.view(-1, size, size)
        if torch.compiler.is_compiling() and table.device.type == 'cpu':
            # by products, whose result is there once: the compiler would gather anew for every window, in the softmax
            with torch.autocast('cpu', enabled=False):
                chosen = (offset[..., None] == side).to(table.dtype)  # (size, size, size)
                bias = (chosen[:h] @ table[:, None])[:, :, None] @ chosen[:w].transpose(1, 2)
            bias = bias.reshape(-1, h * w, size, size)
        else:
            # first rows, then columns: the two small indices are all that autograd has to keep
            bias = table.index_select(1, offset[:h].flatten()).index_select(2, offset[:w].flatten())
            bias = bias.view(-1, h, size, w, size).transpose(2, 3).reshape(-1, h * w, size, size)
        if h == w == size:
            return bias.reshape(1, -1, h * w, h * w)
        real = bias[:, :, :h, :w].flatten(2)
        padded = torch.cat([bias[:, :, :h, w:].flatten(2), bias[:, :, h:].flatten(2)], dim=2)
        bias = torch.cat([real, padded.logsumexp(2, keepdim=True)], dim=2)  # (heads, h * w, h * w + 1)
        return F.pad(bias, (0, 0, 0, 1))[None]  # the padding asks too, and nobody reads what it gets
