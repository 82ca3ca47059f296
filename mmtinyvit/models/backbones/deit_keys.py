"""How the published DeiT checkpoints name their tensors, and the way to mmpretrain's names.

The original and timm name them alike. A checkpoint of mmpretrain, or one that this library has saved, is left as it is.
"""
import re
from collections.abc import Mapping

from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = ['convert_deit_state_dict', 'is_official_deit']

RENAMED = (  # patterns on official names, in order; each name matches one
    (r'(cls_token|dist_token|pos_embed)', r'backbone.\1'),
    (r'patch_embed\.proj\.(.+)', r'backbone.patch_embed.projection.\1'),
    (r'blocks\.(\d+)\.norm([12])\.(.+)', r'backbone.layers.\1.ln\2.\3'),
    (r'blocks\.(\d+)\.attn\.(qkv|proj)\.(.+)', r'backbone.layers.\1.attn.\2.\3'),
    (r'blocks\.(\d+)\.mlp\.fc1\.(.+)', r'backbone.layers.\1.ffn.layers.0.0.\2'),
    (r'blocks\.(\d+)\.mlp\.fc2\.(.+)', r'backbone.layers.\1.ffn.layers.1.\2'),
    (r'norm\.(.+)', r'backbone.ln1.\1'),
    (r'(head|head_dist)\.(weight|bias)', r'head.layers.\1.\2'),
)


def is_official_deit(state_dict: Mapping) -> bool:
    """Whether the tensors carry the names of the original."""
    return 'patch_embed.proj.weight' in state_dict and 'blocks.0.attn.qkv.weight' in state_dict


def convert_deit_state_dict(state_dict: Mapping) -> dict[str, Tensor]:
    """Rename the tensors of an official or timm DeiT checkpoint to those of an mmpretrain ``ImageClassifier``.

    Args:
        state_dict: The tensors, or a checkpoint that holds them as ``'model'``.

    Returns:
        The same tensors under ``backbone.`` and ``head.layers.``.

    Raises:
        UserError: A name is not one of DeiT's.
    """
    state_dict = state_dict['model'] if isinstance(state_dict.get('model'), Mapping) else state_dict
    renamed = {}
    for name, value in state_dict.items():
        new = next((re.sub(pattern, to, name) for pattern, to in RENAMED if re.fullmatch(pattern, name)), None)
        if new is None:
            raise UserError(f'The checkpoint has the tensor {name}, which is not of DeiT: give a checkpoint of DeiT '
                            '(not of CaiT, DeiT III or another ViT), or remove it from the file.')
        renamed[new] = value
    return renamed
