"""Checkpoints that must fill a model: a teacher that is partly random would be written down."""
import pickle

from mmengine.runner import load_checkpoint
from torch import nn

from mmtinyvit.errors import UserError

__all__ = ['load_whole_checkpoint']


def load_whole_checkpoint(model: nn.Module, checkpoint: str) -> None:
    """Load all weights of ``model``; MMEngine only warns when a checkpoint lacks some.

    Args:
        model: What to fill.
        checkpoint: File or URL.

    Raises:
        UserError: The checkpoint is missing, damaged, or another model's.
    """
    try:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        reason = ' '.join(str(error).split())
        reason = reason if len(reason) < 240 else f'{reason[:240]}...'
        raise UserError(f'The checkpoint {checkpoint} does not fill this teacher ({reason}): give the one of the '
                        "config's model.") from error
