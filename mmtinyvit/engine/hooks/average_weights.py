"""AverageWeightsHook: averaged weights that may start from any checkpoint."""
from mmengine.runner import Runner
from mmpretrain.engine.hooks import EMAHook

from mmtinyvit.registry import HOOKS

__all__ = ['AverageWeightsHook']


@HOOKS.register_module()
class AverageWeightsHook(EMAHook):
    """``mmpretrain.EMAHook`` that also takes checkpoints without a ``state_dict`` entry, as the official ones of DeiT.

    After each training step: averages the weights. For validation, tests and checkpoints: puts the averages in their
    place. After loading a checkpoint: starts the averages from it, so that they are what is tested.

    Args:
        **kwargs: Of ``mmpretrain.EMAHook``.
    """
    priority = 'ABOVE_NORMAL'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if 'state_dict' not in checkpoint:
            checkpoint = dict(state_dict=dict(checkpoint))
        super().after_load_checkpoint(runner, checkpoint)
