"""The weights that ``init_cfg=dict(type='Pretrained', ...)`` names, wherever in a checkpoint a TinyViT lies."""
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import fill_module, read_state_dict

from .tiny_vit_keys import detect_layout

__all__ = ['load_pretrained', 'split_init_cfg']


def split_init_cfg(init_cfg: dict | list[dict] | None) -> tuple[list[dict], list[dict]]:
    """Entries of type ``Pretrained``, and the others."""
    entries = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
    kinds = ('Pretrained', 'mmengine.Pretrained', PretrainedInit)
    return [e for e in entries if e['type'] in kinds], [e for e in entries if e['type'] not in kinds]


def load_pretrained(module: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Fill a TinyViT from a checkpoint, all of it.

    Args:
        module: The backbone.
        checkpoint: File or URL, in the layout of Cream, timm, mmpretrain or this library.
        prefix: Where the backbone lies in it, such as ``'backbone.'`` for a classifier or detector of OpenMMLab. A
            checkpoint that has none there is searched without a prefix, as Cream's and timm's lie, and then under
            ``'backbone.'``.

    Raises:
        UserError: There is no TinyViT in the checkpoint, or not this one; names every difference.
    """
    state_dict = read_state_dict(checkpoint)
    wanted = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    places = [where for where in (wanted or '', '', 'backbone.') if detect_layout(state_dict, where)]
    if not places:
        raise UserError(f'The checkpoint {checkpoint} holds no TinyViT, neither under {wanted or "backbone."} nor '
                        f'without a prefix (its first keys are {", ".join(list(state_dict)[:3])}): give one that does.')
    where = places[0]
    found = {key.removeprefix(where): value for key, value in state_dict.items() if key.startswith(where)}
    filled = fill_module(module, found, checkpoint)
    print_log(f'TinyViT: all {filled} tensors filled from {checkpoint}' + (f' (under {where})' if where else ''),
              logger='current')
