"""HostMemoryHook: a run on the CPU keeps its memory from step to step."""
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.host_memory import keep_host_memory
from mmtinyvit.registry import HOOKS

__all__ = ['HostMemoryHook']


@HOOKS.register_module()
class HostMemoryHook(Hook):
    """Before a run whose model is on the CPU: :func:`~mmtinyvit.host_memory.keep_host_memory`. On a GPU, nothing."""

    def before_run(self, runner: Runner) -> None:
        if all(parameter.device.type == 'cpu' for parameter in runner.model.parameters()):
            keep_host_memory()
