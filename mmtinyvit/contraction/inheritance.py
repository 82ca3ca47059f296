"""The weights of a parent that fit into a child: what both have in common, and the child's own elsewhere."""
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .architecture import Architecture

__all__ = ['inherit']


def inherit(child: nn.Module, architecture: Architecture, parent: Mapping[str, Tensor],
            parents: Architecture) -> int:
    """Copy the overlapping part of each of the parent's tensors into a child, in place.

    Channels and blocks are taken from the first on. Queries, keys and values overlap head by head, and attention biases
    offset by offset.

    Args:
        child: A classifier with a :class:`.TinyViT`.
        architecture, parents: Of the child and of the parent.
        parent: The parent's state dict.

    Returns:
        int: How many of the child's tensors have something from the parent.
    """
    found, state = 0, child.state_dict()
    for name, ours in state.items():
        theirs = parent.get(name)
        if theirs is None or theirs.ndim != ours.ndim:
            continue
        found += 1
        ours, theirs = _by_part(name, ours, architecture), _by_part(name, theirs, parents)
        common = tuple(slice(min(a, b)) for a, b in zip(ours.shape, theirs.shape, strict=True))
        with torch.no_grad():
            ours[common] = theirs[common].to(ours)
    return found


def _by_part(name: str, tensor: Tensor, architecture: Architecture) -> Tensor:
    """A view of a tensor of which every axis counts things that both networks count alike."""
    if '.attn.' not in name:
        return tensor
    stage = int(name.split('stages.')[1].split('.')[0])
    head, window = architecture.head_dims[stage - 1], architecture.windows[stage - 1]
    if '.qkv.' in name:
        return tensor.view(-1, 3, head, *tensor.shape[1:])  # (heads, q k v, d, ...)
    if name.endswith('attention_biases'):
        return tensor.view(-1, window, window)  # (heads, rows apart, columns apart)
    if name.endswith('proj.weight'):
        return tensor.view(len(tensor), -1, head)  # (C, heads, d)
    return tensor
