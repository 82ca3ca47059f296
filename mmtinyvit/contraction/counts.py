"""Parameters and multiply-accumulates of a TinyViT classifier in closed form: no network is built.

Tests compare both with the built network, see :mod:`mmtinyvit.apis.networks`. A normalisation has two parameters a
channel; MACs are those of convolutions, linear layers and attention.
"""
from collections.abc import Sequence

from .architecture import Architecture

__all__ = ['count_macs', 'count_parameters', 'map_sides']


def count_parameters(architecture: Architecture, num_classes: int = 1000, in_channels: int = 3) -> int:
    """Parameters of the classifier: backbone, last norm and linear head."""
    dims = architecture.dims
    stem = dims[0] // 2
    total = 9 * in_channels * stem + 2 * stem + 9 * stem * dims[0] + 2 * dims[0]
    hidden = int(dims[0] * architecture.expand_ratio)
    total += architecture.depths[0] * (2 * dims[0] * hidden + 9 * hidden + 4 * hidden + 2 * dims[0])
    for stage in range(1, len(dims)):
        before, dim = dims[stage - 1], dims[stage]
        total += before * dim + 9 * dim + dim * dim + 6 * dim  # PatchMerging
        hidden, window = int(dim * architecture.mlp_ratio), architecture.windows[stage - 1]
        heads = dim // architecture.head_dims[stage - 1]
        attention = 4 * dim * dim + 4 * dim + 2 * dim + heads * window**2  # qkv and projection, norm, biases
        local, mlp = 11 * dim, 2 * dim * hidden + hidden + dim + 2 * dim
        total += architecture.depths[stage] * (attention + local + mlp)
    return total + 2 * dims[-1] + dims[-1] * num_classes + num_classes


def count_macs(architecture: Architecture, size: Sequence[int], num_classes: int = 1000, in_channels: int = 3) -> int:
    """Multiply-accumulates for one image of ``size``, H and W in pixels.

    Attention computes whole windows: tokens that fill up a map count.
    """
    dims = architecture.dims
    (half_h, half_w), *maps = map_sides(size)
    stem, area = dims[0] // 2, maps[0][0] * maps[0][1]
    total = half_h * half_w * 9 * in_channels * stem + area * 9 * stem * dims[0]
    hidden = int(dims[0] * architecture.expand_ratio)
    total += architecture.depths[0] * area * (2 * dims[0] * hidden + 9 * hidden)
    for stage in range(1, len(dims)):
        before, dim = dims[stage - 1], dims[stage]
        height, width = maps[stage]
        larger, area = area, height * width
        total += larger * before * dim + area * (9 * dim + dim * dim)  # PatchMerging
        window, hidden = architecture.windows[stage - 1], int(dim * architecture.mlp_ratio)
        tokens = -(-height // window) * -(-width // window) * window**2  # with those that fill up the last windows
        attention = tokens * (4 * dim * dim + 2 * window**2 * dim)
        total += architecture.depths[stage] * (attention + area * (9 * dim + 2 * dim * hidden))
    return total + dims[-1] * num_classes


def map_sides(size: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the maps at the strides 2, 4, 8, 16 and 32; convolutions of stride 2 round up."""
    height, width = size
    sides = []
    for _ in range(5):
        height, width = -(-height // 2), -(-width // 2)
        sides.append((height, width))
    return sides
