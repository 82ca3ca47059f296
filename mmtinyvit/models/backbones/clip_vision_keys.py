"""The published CLIP-ViT-L/14 finetuned on ImageNet-22k: reading it safely, and renaming its tensors.

``clip_vit_large_patch14_22k.pth`` comes from https://github.com/wkcn/TinyViT-model-zoo (release pretrained_teacher).
"""
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = ['convert_clip_state_dict', 'read_published_checkpoint']

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


class _Config:
    """Reads the training configuration (yacs) that the original packs beside the weights as a plain dict."""

    def __new__(cls):
        return OrderedDict()


def read_published_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint that the original code wrote, without running code from it.

    Raises:
        UserError: If the file is missing, is no PyTorch file, or holds more than tensors and plain values.
    """
    try:
        with torch.serialization.safe_globals([(_Config, 'yacs.config.CfgNode')]):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f'There is no checkpoint {path}: download it from '
                        'https://github.com/wkcn/TinyViT-model-zoo/releases.') from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f'{path} is no PyTorch checkpoint, or holds more than tensors and plain values: download it '
                        'again.') from error
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get('model', checkpoint)
    if not isinstance(checkpoint, Mapping) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise UserError(f'{path} holds no state dict of tensors: give the file clip_vit_large_patch14_22k.pth.')
    return dict(checkpoint)


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
