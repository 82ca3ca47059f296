"""Who else looks at what a module does: hooks, the compiler and tracers."""
import torch
from torch import nn

__all__ = ['is_recorded', 'is_watched']


def is_watched(module: nn.Module) -> bool:
    """Whether hooks wait for calls of ``module`` or a part of it, which must not be passed over, nor given less."""
    return any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
               for part in module.modules())


def is_recorded() -> bool:
    """Whether the compiler or a tracer writes down what runs: it wants plain operators, whatever the sizes are."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
