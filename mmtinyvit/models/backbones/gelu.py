"""GELU, where nobody else holds what it is computed from."""
import torch
import torch.nn.functional as F
from torch import Tensor

from .watched import is_recorded

__all__ = ['gelu', 'gelu_map']


def gelu(x: Tensor) -> Tensor:
    """Exact GELU of an intermediate that nobody else holds: in its own memory where autograd does not need it."""
    if is_recorded() or (x.requires_grad and torch.is_grad_enabled()):
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)


def gelu_map(x: Tensor) -> Tensor:
    """:func:`gelu` of a channels-last map, in eager mode seen as tokens: its kernel for the CPU wants plain strides."""
    if torch.compiler.is_compiling():
        return F.gelu(x)
    return gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
