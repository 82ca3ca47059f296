"""What a network costs: parameters, and multiplications per image."""
import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ['count_macs', 'count_parameters']


def count_parameters(model: nn.Module) -> int:
    """Parameters, trained or not; no buffers."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, size: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one RGB image.

    Nothing is computed: a copy of the network runs on torch's meta device. Norms, activations and sums do not count.

    Args:
        model: The network, which takes images ``(B, 3, H, W)``.
        size: H and W in pixels.
    """
    model = copy.deepcopy(model).to('meta').requires_grad_(False)
    model.eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(1, 3, *size, device='meta'))
    return counter.get_total_flops() // 2
