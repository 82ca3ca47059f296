"""The checkpoint that a training starts from, as hooks see it before the model takes it."""
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

__all__ = ['HEADS', 'plain_model', 'starts_training', 'state_of']

HEADS = ('head.fc', 'head')  # where a linear classifier lies: mmpretrain and timm; Cream


def plain_model(runner: Runner) -> nn.Module:
    """The runner's model without a wrapper for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def starts_training(runner: Runner) -> bool:
    """Whether the checkpoint is what a new training starts from, neither a test's nor that of an interrupted one."""
    return isinstance(runner._train_loop, BaseLoop) and not runner._resume


def state_of(checkpoint: dict) -> dict[str, Tensor]:
    """The tensors of a checkpoint: the very dict, so that a hook can change it."""
    return next((checkpoint[name] for name in ('state_dict', 'model') if name in checkpoint), checkpoint)
