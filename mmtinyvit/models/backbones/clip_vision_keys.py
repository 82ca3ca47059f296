"""The published CLIP-ViT-L/14 finetuned on ImageNet-22k: renaming its tensors.

``clip_vit_large_patch14_22k.pth`` comes from https://github.com/wkcn/TinyViT-model-zoo (release pretrained_teacher).
"""
import re
from collections.abc import Mapping

from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = ['convert_clip_state_dict']

RULES = tuple((re.compile(pattern), name) for pattern, name in (
    (r'visual\.conv1\.weight', 'backbone.patch_embed.weight'),
    (r'visual\.class_embedding', 'backbone.cls_token'),
    (r'visual\.positional_embedding', 'backbone.pos_embed'),
    (r'visual\.proj', 'backbone.projection'),
    (r'visual\.(ln_pre|ln_post)\.(weight|bias)', r'backbone.\1.\2'),
    (r'visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.(weight|bias)', r'backbone.blocks.\1.ln\2.\3'),
    (r'visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)', r'backbone.blocks.\1.qkv.\2'),
    (r'visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.(weight|bias)', r'backbone.blocks.\1.proj.\2'),
    (r'visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(weight|bias)', r'backbone.blocks.\1.fc1.\2'),
    (r'visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(weight|bias)', r'backbone.blocks.\1.fc2.\2'),
    (r'head\.(weight|bias)', r'head.fc.\1'),
))
BLOCK_TENSORS = 12


def convert_clip_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the published tensors for an ``ImageClassifier`` of a ``CLIPVisionTower`` and a ``LinearClsHead``.

    Args:
        state_dict: Tensors under the published names, of any width and depth.

    Returns:
        The same tensors as float32 under this library's names.

    Raises:
        UserError: If a tensor is missing or unknown.
    """
    state_dict = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    renamed = {_rename(key): value.float() for key, value in state_dict.items() if _rename(key)}
    unknown = [key for key in state_dict if not _rename(key)]
    depth = len({key.split('.')[2] for key in renamed if key.startswith('backbone.blocks.')})
    missing = {name for _, name in RULES[:4]} - renamed.keys()
    if unknown or missing or len(renamed) != 10 + depth * BLOCK_TENSORS:
        detail = f'does not know {unknown[0]}' if unknown else f'found {len(renamed)} tensors in {depth} blocks'
        raise UserError("This is not CLIP's visual tower with a linear head, as in clip_vit_large_patch14_22k.pth: the "
                        f'converter {detail}.')
    return renamed


def _rename(key: str) -> str | None:
    for pattern, name in RULES:
        found = pattern.fullmatch(key)
        if found:
            return found.expand(name)
    return None
