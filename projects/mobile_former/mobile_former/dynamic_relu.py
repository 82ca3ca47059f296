"""Dynamic ReLU (Chen et al., ECCV 2020, https://arxiv.org/abs/2003.10027), steered by the first token."""
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['DynamicReLU']


class DynamicReLU(nn.Module):
    """``max(a1 x, a2 x)``, with two slopes for each image and channel that a token decides on.

    a1 lies in [0, 2] and a2 in [-1, 1]; an undecided token gives 1 and 0, a plain ReLU.

    Args:
        channels: Channels of the map.
        token_dims: Width of the token.
        reduction: Width of the token over the hidden width.
    """

    def __init__(self, channels: int, token_dims: int, reduction: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(token_dims, token_dims // reduction)
        self.fc2 = nn.Linear(token_dims // reduction, 2 * channels)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and token ``(B, D)`` to a map of the same shape."""
        gates = F.hardsigmoid(self.fc2(F.relu(self.fc1(token)))).to(x.dtype)  # (B, 2C)
        first, second = gates[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        return ((2 * first) * x).maximum((2 * second - 1) * x)
