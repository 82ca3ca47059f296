"""Hooks that expect to see what a module gets and gives."""
from torch import nn

__all__ = ['is_watched']


def is_watched(module: nn.Module) -> bool:
    """Whether hooks wait for calls of ``module`` or a part of it, which must not be passed over, nor given less."""
    return any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
               for part in module.modules())
