"""How the published TinyViT checkpoints name their tensors, and the way from each naming to each other one.

The layouts differ in four things only: the names inside stem, convolution and norm; whether a down-sampling layer
closes a stage (the original, mmpretrain) or opens the next (timm, this library); and where the final norm and the
classifier sit. Attention biases for another window size are interpolated as in the original.
"""
import math
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import NamedTuple

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = [
    'adapt_state_dict', 'convert_state_dict', 'detect_layout', 'interpolate_biases', 'to_cream', 'to_mmpretrain',
    'to_timm'
]


class Layout(NamedTuple):
    """Names in one layout; ``{last}`` stands for the number of the last stage."""
    stem: tuple[str, str]
    stages: str
    closing: bool  # a down-sampling layer is numbered with the stage before it
    conv: str
    bn: str
    norm: str
    fc: str


LAYOUTS = {
    'mmtinyvit': Layout(('conv1', 'conv2'), 'stages.', False, 'conv', 'bn', 'norm{last}', 'head.fc'),
    'timm': Layout(('conv1', 'conv2'), 'stages.', False, 'conv', 'bn', 'head.norm', 'head.fc'),
    'timm features': Layout(('conv1', 'conv2'), 'stages_', False, 'conv', 'bn', 'head.norm', 'head.fc'),
    'Cream': Layout(('seq.0', 'seq.2'), 'layers.', True, 'c', 'bn', 'norm_head', 'head'),
    'mmpretrain': Layout(('seq.0', 'seq.2'), 'stages.', True, 'conv2d', 'bn2d', 'norm{last}', 'head.fc'),
}
MARKS = (('patch_embed.seq.0.c.weight', 'Cream'), ('patch_embed.seq.0.conv2d.weight', 'mmpretrain'),
         ('head.norm.weight', 'timm'), ('stages_0.blocks.0.conv1.conv.weight', 'timm features'),
         ('patch_embed.conv1.conv.weight', 'mmtinyvit'))


def detect_layout(keys: Iterable[str], prefix: str = '') -> str | None:
    """Name of the layout whose backbone is found under ``prefix``, or None."""
    keys = set(keys)
    return next((layout for mark, layout in MARKS if prefix + mark in keys), None)


def convert_state_dict(state_dict: Mapping, target: str = 'mmtinyvit', prefix: str | None = None) -> dict[str, Tensor]:
    """Rename the tensors of a TinyViT checkpoint.

    Args:
        state_dict: Tensors in any layout, bare or as an ``ImageClassifier`` with ``backbone.``; also a checkpoint that
            holds them as ``'model'`` or ``'state_dict'``.
        target: ``'mmtinyvit'``, ``'timm'``, ``'Cream'`` or ``'mmpretrain'``.
        prefix: What to put before the keys of the backbone, ``'backbone.'`` for an ``ImageClassifier``. By default
            mmtinyvit and mmpretrain keep what ``state_dict`` has, and timm and Cream have none.

    Returns:
        The same tensors under the keys of the target. The original's ``attention_bias_idxs`` are left out: they follow
        from the window.

    Raises:
        UserError: If the layout, or one of the keys, is unknown.
    """
    if target not in LAYOUTS:
        raise UserError(f'There is no TinyViT layout {target!r}: choose one of {", ".join(LAYOUTS)}.')
    state_dict = _unwrap(state_dict)
    found = 'backbone.' if any(key.startswith('backbone.') for key in state_dict) else ''
    source = detect_layout(state_dict, found)
    if source is None:
        raise UserError('This is no TinyViT checkpoint in the layout of Cream, timm, mmpretrain or mmtinyvit: its '
                        f'first keys are {", ".join(list(state_dict)[:3])}.')
    if prefix is None:
        prefix = found if target in ('mmtinyvit', 'mmpretrain') else ''
    renamed, unknown = _rename(state_dict, source, target, found, prefix, head_prefix='')
    if unknown:
        raise UserError(f'This TinyViT checkpoint in the layout of {source} has {len(unknown)} keys that do not '
                        f'belong to it, such as {", ".join(list(unknown)[:3])}: remove them first.')
    return renamed


def to_timm(state_dict: Mapping) -> dict[str, Tensor]:
    """The tensors under timm's keys; see :func:`convert_state_dict`."""
    return convert_state_dict(state_dict, 'timm')


def to_cream(state_dict: Mapping) -> dict[str, Tensor]:
    """The tensors under the original's keys; see :func:`convert_state_dict`."""
    return convert_state_dict(state_dict, 'Cream')


def to_mmpretrain(state_dict: Mapping) -> dict[str, Tensor]:
    """The tensors under mmpretrain's keys; see :func:`convert_state_dict`."""
    return convert_state_dict(state_dict, 'mmpretrain')


def interpolate_biases(biases: Tensor, window_size: int) -> Tensor:
    """Bicubic interpolation of attention biases ``(heads, w * w)`` to ``(heads, window_size ** 2)``, as the original's.

    Raises:
        UserError: If the biases are not those of a square window.
    """
    side = math.isqrt(biases.shape[1])
    if side**2 != biases.shape[1]:
        raise UserError(f'Attention biases of shape {tuple(biases.shape)} do not belong to a square window.')
    table = biases.float().view(1, -1, side, side)
    table = F.interpolate(table, size=(window_size, window_size), mode='bicubic', align_corners=False)
    return table.view(len(biases), -1).to(biases.dtype)


def adapt_state_dict(state_dict: MutableMapping, expected: Mapping[str, Tensor], prefix: str = '') -> None:
    """Make the tensors under ``prefix`` fit a backbone, in place, and log what was done.

    Renames them to this library's layout, interpolates attention biases, and drops what a backbone without classifier,
    pooled norm or later stages does not hold. A key that no layout knows stays, for the caller to complain about.

    Args:
        state_dict: The checkpoint as the backbone sees it.
        expected: State dict of the backbone, without prefix.
        prefix: Prefix of the backbone's keys.

    Raises:
        UserError: If the backbone is fused and the checkpoint is not.
    """
    if not prefix and isinstance(state_dict.get('model'), Mapping):
        tensors = state_dict['model']
        state_dict.clear()
        state_dict.update(tensors)
    source = detect_layout(state_dict, prefix)
    if source is None:
        return
    renamed, unknown = _rename(state_dict, source, 'mmtinyvit', prefix, prefix, head_prefix=prefix)
    known = {prefix + key for key in expected}
    left_out = [key for key in renamed if key not in known and _is_optional(key[len(prefix):], expected)]
    if 'patch_embed.conv1.conv.bias' in expected and f'{prefix}patch_embed.conv1.bn.weight' in renamed:
        raise UserError('This TinyViT is fused but the checkpoint is not: load the checkpoint before fuse().')
    windows = set()
    for key, value in renamed.items():
        fits = expected.get(key[len(prefix):])
        if fits is not None and key.endswith('attention_biases') and value.shape[1] != fits.shape[1]:
            windows.add(f'{math.isqrt(value.shape[1])} to {math.isqrt(fits.shape[1])}')
            renamed[key] = interpolate_biases(value, math.isqrt(fits.shape[1]))
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]
    state_dict.update((key, value) for key, value in renamed.items() if key not in left_out)
    state_dict.update(unknown)
    _log(source, len(known & renamed.keys()), len(known), windows, left_out)


def _rename(state_dict: Mapping, source: str, target: str, old_prefix: str, new_prefix: str,
            head_prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors renamed, and those whose keys the source layout does not know."""
    stages = re.compile(re.escape(old_prefix + LAYOUTS[source].stages) + r'(\d+)\.blocks')
    last = max((int(found[1]) for found in map(stages.match, state_dict) if found), default=0)
    old, new = (layout._replace(norm=layout.norm.format(last=last)) for layout in (LAYOUTS[source], LAYOUTS[target]))
    renamed, unknown = {}, {}
    for key, value in state_dict.items():
        if key.endswith('attention_bias_idxs'):
            continue
        name = _rename_key(key.removeprefix(old_prefix), old, new)
        if name is None:
            unknown[key] = value
        else:
            renamed[(head_prefix if name.startswith('head.') else new_prefix) + name] = value
    return renamed, unknown


def _rename_key(key: str, old: Layout, new: Layout) -> str | None:
    for there, here in zip(old.stem, new.stem, strict=True):
        if key.startswith(f'patch_embed.{there}.'):
            return _rename_unit(f'patch_embed.{here}.' + key.removeprefix(f'patch_embed.{there}.'), old, new)
    for there, here in ((old.norm, new.norm), (old.fc, new.fc)):
        if re.fullmatch(rf'{re.escape(there)}\.(weight|bias)', key):
            return here + key.removeprefix(there)
    found = re.fullmatch(re.escape(old.stages) + r'(\d+)\.(blocks|downsample)\.(.+)', key)
    if found is None:
        return None
    stage = int(found[1])
    if found[2] == 'downsample':
        stage += old.closing - new.closing
    return _rename_unit(f'{new.stages}{stage}.{found[2]}.{found[3]}', old, new)


def _rename_unit(key: str, old: Layout, new: Layout) -> str:
    key = re.sub(rf'\.{old.conv}\.(?=\w+$)', f'.{new.conv}.', key)
    return re.sub(rf'\.{old.bn}\.(?=\w+$)', f'.{new.bn}.', key)


def _unwrap(checkpoint: Mapping) -> Mapping:
    return next((checkpoint[name] for name in ('state_dict', 'model') if isinstance(checkpoint.get(name), Mapping)),
                checkpoint)


def _is_optional(key: str, expected: Mapping) -> bool:
    stage = re.match(r'stages\.(\d+)\.', key)
    if stage:
        return not any(name.startswith(stage[0]) for name in expected)
    return key.startswith(('head.', 'norm'))


def _log(source: str, taken: int, wanted: int, windows: set[str], left_out: list[str]) -> None:
    notes = []
    if windows:
        notes.append(f'attention biases interpolated from windows {" and ".join(sorted(windows))}')
    if left_out:
        shown = ', '.join(left_out[:4]) + (', ...' if len(left_out) > 4 else '')
        notes.append(f'{len(left_out)} left out ({shown})')
    if notes or source != 'mmtinyvit':
        print_log('; '.join([f'TinyViT takes {taken} of its {wanted} tensors from a checkpoint in the layout of '
                             f'{source}', *notes]), logger='current')
