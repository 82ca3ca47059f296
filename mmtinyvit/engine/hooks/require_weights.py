"""RequireWeightsHook: finetuning starts from weights, and from all of them."""
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.engine.starting_point import plain_model, starts_training, state_of
from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import fill_module
from mmtinyvit.registry import HOOKS

__all__ = ['RequireWeightsHook']


@HOOKS.register_module()
class RequireWeightsHook(Hook):
    """Before training: refuse to start from random weights, or from a checkpoint that does not fill the model.

    MMEngine trains without a word if ``load_from`` is not set, and only warns of tensors that do not match. Runs after
    :class:`.MapHeadHook`, before the model takes the checkpoint.

    Args:
        fresh: Prefixes of the parameters that may start anew, for example ``('head.', )``.
        unused: Prefixes of what the checkpoint may hold beyond the model, for example what only pretraining needs.
    """
    priority = 'LOW'

    def __init__(self, fresh: Sequence[str] = (), unused: Sequence[str] = ()) -> None:
        self.fresh = tuple(fresh)
        self.unused = tuple(unused)
        self.loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.loaded = True
        if runner._resume:  # its checkpoint came from this very model
            return
        model = plain_model(runner)
        starts = starts_training(runner)
        state = {name.removeprefix('module.'): value for name, value in state_of(checkpoint).items()}
        state = {name: value for name, value in state.items() if not (starts and name.startswith(self.unused))}
        filled = fill_module(model, state, str(runner._load_from), self.fresh if starts else ())
        runner.logger.info(f'{filled} tensors of {type(model).__name__} filled from {runner._load_from}')

    def before_train(self, runner: Runner) -> None:
        if not self.loaded:
            raise UserError('This recipe starts from trained weights: name them with --cfg-options '
                            'load_from=CHECKPOINT, or take mmtinyvit.RequireWeightsHook out of custom_hooks to start '
                            'from random ones.')
