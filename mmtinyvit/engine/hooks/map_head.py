"""MapHeadHook: starts finetuning on ImageNet-1K from the matching rows of an ImageNet-21K head."""
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmtinyvit.engine.starting_point import HEADS, plain_model, state_of
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import IN21K_LAYOUTS, in21k_to_in1k_index
from mmtinyvit.registry import HOOKS

__all__ = ['MapHeadHook', 'map_rows']


def map_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Select rows of a large head; a class without a match gets the mean row.

    Args:
        rows: ``(C, ...)``, weight or bias of the large head.
        index: ``(c,)`` int64, the large head's class for each class of the small one, -1 for none.

    Returns:
        Tensor: ``(c, ...)``.
    """
    mapped = rows[index.clamp(min=0)].clone()
    mapped[index < 0] = rows.float().mean(0).to(rows.dtype)
    return mapped


@HOOKS.register_module()
class MapHeadHook(Hook):
    """After loading a checkpoint with an ImageNet-21K head, before the model takes it: keep the 1,000 matching rows.

    Classes are matched by synset. Does nothing on resuming, or if the head fits already.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = state_of(checkpoint)
        names = [name for name in HEADS if f'{name}.weight' in state]
        wanted = plain_model(runner).head.num_classes
        if runner._resume or not names:
            return
        weight, bias = f'{names[0]}.weight', f'{names[0]}.bias'
        found = len(state[weight])
        if found == wanted:
            return
        if wanted != 1000 or found not in IN21K_LAYOUTS:
            raise UserError(f'The checkpoint has a head of {found} classes and the model one of {wanted}: MapHeadHook '
                            f'maps {", ".join(map(str, IN21K_LAYOUTS))} classes to 1000; replace it by '
                            'mmtinyvit.NewHeadHook in custom_hooks to start with a new head.')
        index = torch.from_numpy(in21k_to_in1k_index(found).copy())
        for name in (weight, bias):
            state[name] = map_rows(state[name], index)
        matched = int((index >= 0).sum())
        runner.logger.info(f'Head of {found:,} classes mapped to {wanted:,}: {matched} rows matched by synset, '
                           f'{wanted - matched} set to the mean row')
