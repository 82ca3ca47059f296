"""HostMemoryHook: what makes a run on the CPU faster, switched on in one place."""
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.backends import cuda

from mmtinyvit.host_memory import keep_host_memory
from mmtinyvit.registry import HOOKS

__all__ = ['HostMemoryHook']


@HOOKS.register_module()
class HostMemoryHook(Hook):
    """Before a run whose model is on the CPU: :func:`~mmtinyvit.host_memory.keep_host_memory`. On a GPU, nothing.

    Args:
        bf16_attention: Whether attention in bfloat16 or float16 whose bias learns is also computed in it while the run
            lasts. By default PyTorch computes it in float32 and converts there and back.
    """
    _before: bool | None = None

    def __init__(self, bf16_attention: bool = True) -> None:
        self.bf16_attention = bf16_attention

    def before_run(self, runner: Runner) -> None:
        if all(parameter.device.type == 'cpu' for parameter in runner.model.parameters()):
            keep_host_memory()
            if self.bf16_attention:
                self._before = cuda.fp16_bf16_reduction_math_sdp_allowed()
                cuda.allow_fp16_bf16_reduction_math_sdp(True)  # of the CPU too, whatever the module is called

    def after_run(self, runner: Runner) -> None:
        if self._before is not None:
            cuda.allow_fp16_bf16_reduction_math_sdp(self._before)
