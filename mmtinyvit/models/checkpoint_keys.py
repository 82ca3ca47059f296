"""How published checkpoints name their tensors, and the way to this library's names: TinyViT, ViT, DeiT, CLIP.

TinyViT has four layouts (Cream, timm, mmpretrain, ours). They differ in four things only: the names inside stem,
convolution and norm; whether a down-sampling layer closes a stage (the original, mmpretrain) or opens the next (timm,
this library); and where the final norm and the classifier sit. The other networks are tables of names.
"""
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import NamedTuple

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmtinyvit.errors import UserError

__all__ = [
    'MARKS', 'adapt_state_dict', 'convert_clip_state_dict', 'convert_deit_state_dict', 'convert_in_place',
    'convert_state_dict', 'convert_vit_state_dict', 'detect_layout', 'find_tiny_vit', 'interpolate_biases',
    'open_containers', 'unwrap_checkpoint'
]


# ---------------------------------------------------------------- TinyViT
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
MARKS = {'patch_embed.seq.0.c.weight': 'Cream', 'patch_embed.seq.0.conv2d.weight': 'mmpretrain',
         'head.norm.weight': 'timm', 'stages_0.blocks.0.conv1.conv.weight': 'timm features',
         'patch_embed.conv1.conv.weight': 'mmtinyvit'}


def detect_layout(keys: Collection[str], prefix: str = '') -> str | None:
    """Name of the layout whose backbone is found under ``prefix``, or None."""
    return next((layout for mark, layout in MARKS.items() if prefix + mark in keys), None)


def find_tiny_vit(state_dict: Mapping, source: str, prefix: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The backbone in a checkpoint ``source`` of any layout, and the prefix that was removed from its keys.

    Where there is none under ``prefix``, it is searched without one, as Cream's and timm's lie, and then under
    ``'backbone.'``. Raises :class:`UserError` if there is no TinyViT.
    """
    wanted = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    place = next((place for place in (wanted or '', '', 'backbone.') if detect_layout(state_dict, place)), None)
    if place is None:
        raise UserError(f'The checkpoint {source} holds no TinyViT, neither under {wanted or "backbone."} nor without '
                        f'a prefix (its first keys are {", ".join(list(state_dict)[:3])}): give one that does.')
    return {key.removeprefix(place): value for key, value in state_dict.items() if key.startswith(place)}, place


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
    state_dict = unwrap_checkpoint(state_dict)
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
    """Make the tensors under ``prefix`` fit a backbone with the state dict ``expected``, in place, and log it.

    Renames them to this library's layout, interpolates attention biases, and drops what a backbone without classifier,
    pooled norm or later stages does not hold. A key that no layout knows stays, for the caller to complain about.
    Raises :class:`UserError` if the backbone is fused and the checkpoint is not.
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
    optional = tuple(f'{prefix}{part}' for part in ('head.', 'norm', 'stages.'))
    stages = tuple({prefix + key[:len('stages.0.')] for key in expected if key.startswith('stages.')})
    left_out = [key for key in renamed
                if key not in known and key.startswith(optional) and not key.startswith(stages)]
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
    notes = [f'attention biases interpolated from windows {" and ".join(sorted(windows))}'] if windows else []
    if left_out:
        notes.append(f'{len(left_out)} left out ({", ".join(left_out[:4])}{", ..." if len(left_out) > 4 else ""})')
    if notes or source != 'mmtinyvit':
        print_log('; '.join([f'TinyViT takes {len(known & renamed.keys())} of its {len(known)} tensors from a '
                             f'checkpoint in the layout of {source}', *notes]), logger='current')


def _rename(state_dict: Mapping, source: str, target: str, old_prefix: str, new_prefix: str,
            head_prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors renamed, and those whose keys the source layout does not know."""
    stages = re.compile(re.escape(old_prefix + LAYOUTS[source].stages) + r'(\d+)\.blocks')
    last = max((int(found[1]) for found in map(stages.match, state_dict) if found), default=0)
    names = list(zip(_names(LAYOUTS[source], last), _names(LAYOUTS[target], last), strict=True))
    keys = {key.removeprefix(old_prefix): key for key in state_dict if not key.endswith('attention_bias_idxs')}
    renamed, unknown = _rename_by_table({short: state_dict[key] for short, key in keys.items()}, names)
    renamed = {(head_prefix if name.startswith('head.') else new_prefix) + name: value
               for name, value in renamed.items()}
    return renamed, {keys[short]: state_dict[keys[short]] for short in unknown}


def _names(layout: Layout, last: int) -> list[str]:
    """The column of a layout in a table for :func:`_rename_by_table`."""
    stages = [place for i in range(last + 1) for place in (f'{layout.stages}{i}.blocks.{{rest}}',
                                                           f'{layout.stages}{i - layout.closing}.downsample.{{rest}}')]
    units = [f'{place}.{unit}.{{leaf}}' for place in (*(f'patch_embed.{stem}' for stem in layout.stem), *stages)
             for unit in (layout.conv, layout.bn)]
    return [*units, *stages, layout.norm.format(last=last) + '.{kind}', layout.fc + '.{kind}']


# Entries in which programs keep the tensors. Each before the one that its own program would pass over: timm loads its
# averaged weights, DeiT and ConvNeXt those that were trained.
CONTAINERS = ('state_dict_ema', 'state_dict', 'model', 'model_ema', 'student', 'module')


def open_containers(checkpoint: Mapping) -> Mapping:
    """What a checkpoint has in the first of :data:`CONTAINERS` with content, at any depth, or itself; says which."""
    while found := [name for name in CONTAINERS if isinstance(checkpoint.get(name), Mapping) and checkpoint[name]]:
        if len(found) > 1:
            print_log(f'The checkpoint has {" and ".join(found)}: {found[0]} is taken', logger='current')
        checkpoint = checkpoint[found[0]]
    return checkpoint


def unwrap_checkpoint(checkpoint: Mapping, own: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without what training wrapped around the names of the network.

    These are ``module.`` of parallel and averaged models and ``_orig_mod.`` of ``torch.compile``, before any part of
    the network, and ``model.`` and ``student.`` before all of it, in any order. Beside a student, the teacher and the
    averaged copies are left out.

    Args:
        checkpoint: The tensors, or what holds them; see :func:`open_containers`.
        own: Names of the network's tensors. A wrapper's name that is among their parts is no wrapper there.
    """
    tensors = dict(open_containers(checkpoint))
    marks = {'module', '_orig_mod'} - {part for name in own for part in name.split('.')}
    if any(marks.intersection(name.split('.')) for name in tensors):
        tensors = _renamed({name: value for name, value in tensors.items()  # but for the counters of averaged models
                            if name in own or name not in ('n_averaged', 'steps')},
                           lambda name: '.'.join(part for part in name.split('.') if part not in marks))
    first = {name.split('.')[0] for name in own}
    while wrapper := next((f'{part}.' for part in ('model', 'student') if part not in first
                           and any(name.startswith(f'{part}.') for name in tensors)), None):
        beside = {name.split('.')[0] for name in tensors} & {'teacher', 'model_ema', 'ema'} - first
        if beside:
            print_log(f'The checkpoint has {wrapper} and {"., ".join(sorted(beside))}.: {wrapper} is taken',
                      logger='current')
        tensors = _renamed({name: value for name, value in tensors.items() if name.split('.')[0] not in beside},
                           lambda name, wrapper=wrapper: name.removeprefix(wrapper))
    return tensors


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if rename(name) in renamed:
            raise UserError(f'The checkpoint has {rename(name)} twice, once of them as {name}: keep one copy of the '
                            'network in it.')
        renamed[rename(name)] = value
    return renamed


def convert_in_place(state_dict: MutableMapping, prefix: str, *_, marks: Iterable[str],
                     convert: Callable[[Mapping], Mapping]) -> None:
    """A backbone's ``_checkpoint_filter``, which an mmpretrain ``ImageClassifier`` around it runs before loading.

    Published checkpoints, which have one of the tensors ``marks``, hold a whole classifier without ``backbone.``,
    perhaps under ``model``.
    """
    bare = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if any(mark in bare.get('model', bare) for mark in marks):
        for key in bare:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in convert(bare).items()})


# ---------------------------------------------------------------- ViT, DeiT, CLIP
PLACEHOLDERS = dict(i=r'\d+', n='[12]', part='qkv|proj', end='pre|post', kind='weight|bias', rest='.+',
                    leaf=r'\w+')
VIT_NAMES = (  # of MAE, the released TinyMIM and timm; of mmpretrain's VisionTransformer
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.proj.{kind}', 'patch_embed.projection.{kind}'),
    ('blocks.{i}.norm{n}.{kind}', 'layers.{i}.ln{n}.{kind}'),
    ('blocks.{i}.attn.{part}.{kind}', 'layers.{i}.attn.{part}.{kind}'),
    ('blocks.{i}.mlp.fc1.{kind}', 'layers.{i}.ffn.layers.0.0.{kind}'),
    ('blocks.{i}.mlp.fc2.{kind}', 'layers.{i}.ffn.layers.1.{kind}'),
    ('norm.{kind}', 'ln1.{kind}'),
    ('fc_norm.{kind}', 'ln2.{kind}'),  # behind average pooling
)
NOT_THE_VIT = ('decoder_', 'mask_token', 'head.')  # of MAE and timm
DEIT_NAMES = (  # of the original and timm; of an mmpretrain ImageClassifier
    *((old, f'backbone.{new}') for old, new in VIT_NAMES[:-1]),
    ('dist_token', 'backbone.dist_token'),
    ('head.{kind}', 'head.layers.head.{kind}'),
    ('head_dist.{kind}', 'head.layers.head_dist.{kind}'),
)
CLIP_NAMES = (  # of clip_vit_large_patch14_22k.pth; of an ImageClassifier with a CLIPVisionTower
    ('visual.conv1.weight', 'backbone.patch_embed.weight'),
    ('visual.class_embedding', 'backbone.cls_token'),
    ('visual.positional_embedding', 'backbone.pos_embed'),
    ('visual.proj', 'backbone.projection'),
    ('visual.ln_{end}.{kind}', 'backbone.ln_{end}.{kind}'),
    ('visual.transformer.resblocks.{i}.ln_{n}.{kind}', 'backbone.blocks.{i}.ln{n}.{kind}'),
    ('visual.transformer.resblocks.{i}.attn.in_proj_{kind}', 'backbone.blocks.{i}.qkv.{kind}'),
    ('visual.transformer.resblocks.{i}.attn.out_proj.{kind}', 'backbone.blocks.{i}.proj.{kind}'),
    ('visual.transformer.resblocks.{i}.mlp.c_fc.{kind}', 'backbone.blocks.{i}.fc1.{kind}'),
    ('visual.transformer.resblocks.{i}.mlp.c_proj.{kind}', 'backbone.blocks.{i}.fc2.{kind}'),
    ('head.{kind}', 'head.fc.{kind}'),
)


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
    names = [(name, pair[layout == 'mmpretrain']) for pair in VIT_NAMES for name in pair]
    whole = any(key.startswith('backbone.') for key in state_dict)
    wanted = {key.removeprefix('backbone.'): value for key, value in state_dict.items()
              if (key.startswith('backbone.') if whole else not key.startswith(NOT_THE_VIT))}
    renamed, unknown = _rename_by_table(wanted, names)
    if unknown or not renamed:
        raise UserError('This is no vision transformer in the layout of MAE, timm or mmpretrain: the tensor '
                        f'{(unknown or ["patch_embed"])[0]} is {"not known" if unknown else "missing"}.')
    return {prefix + key: value for key, value in renamed.items()}


def convert_deit_state_dict(state_dict: Mapping) -> dict[str, Tensor]:
    """Rename the tensors of an official or timm DeiT checkpoint to those of an mmpretrain ``ImageClassifier``.

    Args:
        state_dict: The tensors, or a checkpoint that holds them as ``'model'``.

    Raises:
        UserError: A name is not one of DeiT's.
    """
    renamed, unknown = _rename_by_table(unwrap_checkpoint(state_dict), DEIT_NAMES)
    if unknown:
        raise UserError(f'The checkpoint has the tensor {unknown[0]}, which is not of DeiT: give a checkpoint of DeiT '
                        '(not of CaiT, DeiT III or another ViT), or remove it from the file.')
    return renamed


def convert_clip_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of CLIP-ViT-L/14 finetuned on ImageNet-22k, of any width and depth.

    Args:
        state_dict: Tensors under the names of ``clip_vit_large_patch14_22k.pth``
            (https://github.com/wkcn/TinyViT-model-zoo, release pretrained_teacher).

    Returns:
        The same tensors as float32, for an ``ImageClassifier`` of a ``CLIPVisionTower`` and a ``LinearClsHead``.

    Raises:
        UserError: If a tensor is missing or unknown.
    """
    renamed, unknown = _rename_by_table(state_dict, CLIP_NAMES)
    depth = len({key.split('.')[2] for key in renamed if key.startswith('backbone.blocks.')})
    if unknown or len(renamed) != 10 + depth * 12:  # 12 tensors in each block
        detail = f'does not know {unknown[0]}' if unknown else f'found {len(renamed)} tensors in {depth} blocks'
        raise UserError("This is not CLIP's visual tower with a linear head, as in clip_vit_large_patch14_22k.pth: the "
                        f'converter {detail}.')
    return {name: value.float() for name, value in renamed.items()}


def _rename_by_table(state_dict: Mapping[str, Tensor],
                     names: Sequence[tuple[str, str]]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors renamed by a table of (old, new) with :data:`PLACEHOLDERS`, and the keys that it does not know."""
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        for old, new in names:
            if found := _pattern(old).fullmatch(key):
                renamed[new.format(**found.groupdict())] = value
                break
        else:
            unknown.append(key)
    return renamed, unknown


@cache
def _pattern(name: str) -> re.Pattern:
    return re.compile(re.sub(r'\\{(\w+)\\}', lambda found: f'(?P<{found[1]}>{PLACEHOLDERS[found[1]]})',
                             re.escape(name)))
