"""What a network gives and costs: features before its last layer, parameters, and multiplications per image."""
import copy
from collections.abc import Sequence
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmtinyvit.errors import UserError

__all__ = ['count_macs', 'count_parameters', 'input_channels', 'pre_logits']


def pre_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Input of the last layer, ``(B, D)``, of an mmpretrain ``ImageClassifier`` or ``TimmClassifier``.

    Args:
        model: The classifier.
        inputs: ``(B, C, H, W)``, normalised.

    Raises:
        UserError: The model has no such features.
    """
    arguments = signature(model.extract_feat).parameters if hasattr(model, 'extract_feat') else ()
    if hasattr(getattr(model, 'model', None), 'forward_head'):  # a timm model
        found = model.model.forward_head(model.model.forward_features(inputs), pre_logits=True)
    elif 'stage' in arguments and hasattr(getattr(model, 'head', None), 'pre_logits'):
        found = model.extract_feat(inputs, stage='pre_logits')
    else:
        raise UserError(f'{type(model).__name__} gives no features before its last layer: use an ImageClassifier or a '
                        'TimmClassifier, with a head.')
    found = found[-1] if isinstance(found, tuple | list) else found
    if found.ndim != 2:
        raise UserError(f'{type(model).__name__} gives features of shape {tuple(found.shape)} before its last layer, '
                        'not (B, D): add a pooling neck.')
    return found


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution; 3 if it has none."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def count_parameters(model: nn.Module) -> int:
    """Parameters, trained or not; no buffers."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, size: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one image.

    Nothing is computed: a copy of the network runs on torch's meta device. Norms, activations and sums do not count.

    Args:
        model: The network, which takes images ``(B, C, H, W)``, see :func:`input_channels`.
        size: H and W in pixels.
    """
    model = copy.deepcopy(model).to('meta').requires_grad_(False)
    model.eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(1, input_channels(model), *size, device='meta'))
    return counter.get_total_flops() // 2
