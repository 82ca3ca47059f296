"""NewHeadHook: a linear probe or another set of classes starts with a head of its own."""
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.engine.starting_point import HEADS, starts_training, state_of
from mmtinyvit.registry import HOOKS

__all__ = ['NewHeadHook']


@HOOKS.register_module()
class NewHeadHook(Hook):
    """After loading a checkpoint to start training from, before the model takes it: leave its classifier out.

    Does nothing in a test or on resuming.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not starts_training(runner):
            return
        state = state_of(checkpoint)
        found = [name for name in HEADS if f'{name}.weight' in state]
        for name in found:
            runner.logger.info(f'The checkpoint\'s head of {len(state[f"{name}.weight"]):,} classes is left out')
            del state[f'{name}.weight']
            state.pop(f'{name}.bias', None)
