"""How checkpoints of vision transformers name their tensors: MAE's and timm's way, and mmpretrain's.

The official MAE (https://github.com/facebookresearch/mae), the released TinyMIM and timm share one naming; mmpretrain's
``VisionTransformer`` has another, and its ``MAE`` puts ``backbone.`` before it. What only pretraining needs, the
decoder and the mask token, is left out.
"""
import re
from collections.abc import Mapping

from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = ['convert_vit_state_dict']

# (MAE and timm, mmpretrain); {i} is a block's number. A norm behind average pooling is fc_norm and ln2.
NAMES = (
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.proj', 'patch_embed.projection'),
    ('blocks.{i}.norm1', 'layers.{i}.ln1'),
    ('blocks.{i}.attn.qkv', 'layers.{i}.attn.qkv'),
    ('blocks.{i}.attn.proj', 'layers.{i}.attn.proj'),
    ('blocks.{i}.norm2', 'layers.{i}.ln2'),
    ('blocks.{i}.mlp.fc1', 'layers.{i}.ffn.layers.0.0'),
    ('blocks.{i}.mlp.fc2', 'layers.{i}.ffn.layers.1'),
    ('norm', 'ln1'),
    ('fc_norm', 'ln2'),
)
NOT_THE_NETWORK = ('decoder_', 'mask_token', 'head.')  # of MAE and timm


def convert_vit_state_dict(state_dict: Mapping[str, Tensor], layout: str = 'mmpretrain',
                           prefix: str = '') -> dict[str, Tensor]:
    """Rename the tensors of a vision transformer.

    Args:
        state_dict: Tensors under MAE's and timm's names, or mmpretrain's with or without ``backbone.``.
        layout: ``'mmpretrain'`` or ``'timm'``.
        prefix: What to put before every key, for example ``'backbone.'``.

    Returns:
        The tensors of the network itself, under the names of the layout. Decoder, mask token, necks and heads are left
        out.

    Raises:
        UserError: It is no such checkpoint, a tensor of a block is missing, or one is unknown.
    """
    if layout not in ('mmpretrain', 'timm'):
        raise UserError(f'There is no layout {layout!r} of vision transformers: choose mmpretrain or timm.')
    state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    whole = any(key.startswith('backbone.') for key in state_dict)
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        if not key.startswith('backbone.') if whole else key.startswith(NOT_THE_NETWORK):
            continue
        name = _rename(key.removeprefix('backbone.'), int(layout == 'mmpretrain'))
        if name is None:
            unknown.append(key)
        else:
            renamed[prefix + name] = value
    if unknown or not renamed:
        raise UserError('This is no vision transformer in the layout of MAE, timm or mmpretrain: the tensor '
                        f'{(unknown or ["patch_embed"])[0]} is {"not known" if unknown else "missing"}.')
    return renamed


def _rename(key: str, target: int) -> str | None:
    """The name of ``key``, from either layout, in the one of number ``target``; None if it is in neither."""
    for names in NAMES:
        for name in names:
            pattern = re.escape(name).replace(re.escape('{i}'), r'(?P<i>\d+)') + r'(?P<kind>\.(?:weight|bias))?'
            found = re.fullmatch(pattern, key)
            if found and bool(found['kind']) != name.endswith(('_token', '_embed')):
                block = found.groupdict().get('i')
                return names[target].replace('{i}', block or '') + (found['kind'] or '')
    return None
