"""What a network gives and costs: features before its last layer, parameters, and multiplications per image."""
import copy
from collections.abc import Callable, Sequence
from inspect import signature

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmtinyvit.errors import UserError

__all__ = ['count_macs', 'count_parameters', 'extract_features', 'pre_logits']


def pre_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Input of the last layer of an mmpretrain ``ImageClassifier`` or ``TimmClassifier``, ``(B, D)``.

    Args:
        model: The classifier.
        inputs: ``(B, 3, H, W)``, normalised.

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
    found = found[-1] if isinstance(found, (tuple, list)) else found
    if found.ndim != 2:
        raise UserError(f'{type(model).__name__} gives features of shape {tuple(found.shape)} before its last layer, '
                        'not (B, D): add a pooling neck.')
    return found


def extract_features(runner: Runner,
                     on_batch: Callable[[int], None] = lambda images: None) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over the test data of its runner.

    Args:
        runner: With a test loader; its model is put into eval mode.
        on_batch: Called after each batch with the number of its images.

    Returns:
        tuple: Features ``(N, D)`` float32 and labels ``(N,)`` int64, in the order of the dataset.
    """
    runner.load_or_resume()
    model = runner.model
    model.eval()
    loader = runner.build_dataloader(runner._test_dataloader)
    features, labels = [], []
    with torch.inference_mode():
        for batch in loader:
            batch = model.data_preprocessor(batch, False)
            features.append(pre_logits(model, batch['inputs']).float().cpu().numpy())
            labels.append([int(sample.gt_label) for sample in batch['data_samples']])
            on_batch(len(labels[-1]))
    return np.concatenate(features), np.concatenate(labels).astype(np.int64)


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
