"""EpochClockHook: tells the replayed transforms which view the epoch reads."""
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmtinyvit.datasets import set_view
from mmtinyvit.errors import UserError
from mmtinyvit.registry import HOOKS

__all__ = ['EpochClockHook', 'advance_clock']


def advance_clock(runner: Runner, views: Sequence[int] | None) -> int:
    """Set the clocks of the training's dataset to the view of the coming epoch.

    Args:
        runner: In training.
        views: The views in the order of the epochs, repeated for as long as it takes; None counts epochs.

    Returns:
        int: The view.

    Raises:
        UserError: The loop does not count epochs, or no transform has a clock.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise UserError('Replayed views belong to epochs: use an epoch-based train_cfg (by_epoch=True).')
    view = runner.epoch if views is None else views[runner.epoch % len(views)]
    if not set_view(runner.train_dataloader.dataset, view):
        raise UserError('No mmtinyvit.SeededAugment was found in the training pipeline: the views cannot be replayed.')
    return view


@HOOKS.register_module()
class EpochClockHook(Hook):
    """Before each training epoch: advance the shared clock of ``SeededAugment``, for training without a store.

    Runs before the loader's workers are asked for the first batch of the epoch; nothing of an earlier epoch is in
    flight then.

    Args:
        num_views: Repeat the views after this many epochs; None never does.
    """

    def __init__(self, num_views: int | None = None) -> None:
        self.views = None if num_views is None else range(num_views)

    def before_train_epoch(self, runner: Runner) -> None:
        advance_clock(runner, self.views)
