"""HostMemoryHook: what makes a run on the CPU faster, switched on in one place."""
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.host_memory import keep_host_memory
from mmtinyvit.registry import HOOKS

__all__ = ['HostMemoryHook']


@HOOKS.register_module()
class HostMemoryHook(Hook):
    """Before a run whose model is on the CPU: :func:`~mmtinyvit.host_memory.keep_host_memory`. On a GPU, nothing.

    Args:
        bf16_attention: Whether attention in bfloat16 whose bias learns is also computed in it. By default PyTorch
            computes it in float32 and converts there and back.
    """

    def __init__(self, bf16_attention: bool = True) -> None:
        self.bf16_attention = bf16_attention

    def before_run(self, runner: Runner) -> None:
        if all(parameter.device.type == 'cpu' for parameter in runner.model.parameters()):
            keep_host_memory()
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(self.bf16_attention)  # of the CPU too
