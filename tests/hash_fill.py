"""Weights and images that anyone can recompute: a hash of the element's number, by a tensor's shape and kind.

The rule of the golden values: independent of module names and their order, in float64. It cannot notice two swapped
tensors of the same shape.
"""
import math

import numpy as np
import torch

__all__ = ['fill', 'hashed', 'image']


def hashed(count: int, salt: int) -> np.ndarray:
    """``(count,)`` float64 in [-0.5, 0.5): the finaliser of MurmurHash3 over salt, salt + 1, ..."""
    with np.errstate(over='ignore'):
        h = np.arange(count, dtype=np.uint32) + np.uint32(salt)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85ebca6b)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xc2b2ae35)
        h ^= h >> np.uint32(16)
    return h / 2**32 - 0.5


@torch.no_grad()
def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Fill every floating tensor of the state dict; returns the model in float64 and eval mode."""
    model = model.double()
    model.eval()
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        size = tensor.shape[0] if tensor.ndim else 1
        values = hashed(tensor.numel(), tensor.ndim * 7919 + size) * math.sqrt(12)
        last = name.rsplit('.', 1)[-1]
        if tensor.ndim >= 2:
            values *= 0.5 if size == 1 else math.sqrt(size / tensor.numel())
        elif last == 'running_var' or last == 'weight':
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        tensor.copy_(torch.from_numpy(values).view(tensor.shape))
    return model


def image(side: int) -> torch.Tensor:
    """``(1, 3, side, side)`` float64."""
    return torch.from_numpy(hashed(3 * side * side, 1) * 2 * math.sqrt(12)).view(1, 3, side, side)
