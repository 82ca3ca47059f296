"""Tokens from the inside of a network, without computing what lies behind them.

A vision transformer is tapped at any block. TinyViT attends inside windows, at several strides, and has no class token.
Yet a block makes its queries, keys and values token by token, so all tokens of a map can be related to one another, as
a vision transformer's are:

- the student's map at a stage, normalised and projected by the last block of that stage, gives q, k and v for each of
  its h x w tokens; at 224 pixels 14 x 14 at stage 3 and 7 x 7 at stage 4;
- the teacher's class token is left out, which leaves its grid of patches, 14 x 14 for patches of 16 pixels;
- the common grid is the coarser of the two, and on the finer one q, k and v are averaged over each cell;
- the student's channels are cut into as many heads as the teacher has, as in TinyMIM's adaptive block. The learnt
  biases of the attention belong to its windows and take no part.
"""
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from mmpretrain.models.selfsup import MAEViT
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmtinyvit.errors import UserError

from ..backbones.tiny_vit import TinyViT
from ..losses.tinymim import FEATURES

__all__ = ['check_stages', 'check_vit', 'idle_parameters', 'idle_parameters_of_stages', 'relate_on_grid',
           'tap_stages', 'tap_vit', 'visible_patches']


# ---------------------------------------------------------------- a vision transformer, at a block
def check_vit(vit: nn.Module, block: int, role: str) -> None:
    """Raises :class:`UserError` if ``vit``, the network of ``role``, is not computed as by :func:`tap_vit`."""
    if getattr(type(vit), 'forward', None) not in (VisionTransformer.forward, MAEViT.forward):
        raise UserError(f'The {role} {type(vit).__name__} cannot be tapped: TinyMIM needs a mmpretrain '
                        'VisionTransformer or MAEViT'
                        f'{", or a mmtinyvit.TinyViT" if role == "student" else ""}.')
    if not 1 <= block <= vit.num_layers:
        raise UserError(f'The {role} {type(vit).__name__} has blocks 1 to {vit.num_layers}, and no block {block}.')


def visible_patches(mask: Tensor) -> Tensor:
    """The numbers of the patches that a mask ``(B, h, w)``, 1 where one is hidden, leaves: ``(B, n)`` int64, ascending.

    Raises:
        UserError: The images differ in the number of visible patches, or one has none.
    """
    hidden = mask.flatten(1) != 0
    counts = set((~hidden).sum(1).tolist())
    if len(counts) != 1 or 0 in counts:
        raise UserError(f'The masks of a batch leave {", ".join(map(str, sorted(counts)))} patches visible: every '
                        'image needs the same number, and at least one, as from SimMIMMaskGenerator.')
    return hidden.byte().argsort(dim=1, stable=True)[:, :counts.pop()]


def tap_vit(vit: VisionTransformer, images: Tensor, block: int, features: Collection[str],
            visible: Tensor | None = None) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Run ``vit`` up to what is asked for, and no further.

    Args:
        vit: The network.
        images: ``(B, 3, H, W)``.
        block: The block to look into, from 1.
        features: Some of :data:`~mmtinyvit.models.losses.tinymim.FEATURES`. For ``'qkv'`` alone the block
            itself is not completed.
        visible: Patches to keep, ``(B, n)``; all by default.

    Returns:
        tuple: The tokens by feature, ``'qkv'`` as ``(3, B, H, N, D / H)`` and everything else as ``(B, N, D)``, extra
        tokens before the patches; and the rows and columns of the image in patches.

    Raises:
        UserError: ``visible`` was made for a larger image.
    """
    x, resolution = vit.patch_embed(images)  # (B, h * w, D)
    extra = vit.num_extra_tokens
    position = resize_pos_embed(vit.pos_embed, vit.patch_resolution, resolution, mode=vit.interpolate_mode,
                                num_extra_tokens=extra)
    x = x + position[:, extra:]
    if visible is not None:
        if int(visible.max()) >= x.shape[1]:
            raise UserError(f'The mask names patch {int(visible.max())}, and an image of {tuple(images.shape[-2:])} '
                            f'pixels has only {x.shape[1]}: make the mask for the image and patch size.')
        x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
    if vit.cls_token is not None:
        x = torch.cat([(vit.cls_token + position[:, :1]).expand(len(x), -1, -1), x], dim=1)
    x = vit.pre_norm(vit.drop_after_pos(x))  # (B, extra + n, D)
    for layer in vit.layers[:block - 1]:
        x = layer(x)
    layer, tokens, last = vit.layers[block - 1], {}, _last(features)
    normed = layer.ln1(x)
    if 'qkv' in features:
        B, N, _ = normed.shape
        tokens['qkv'] = layer.attn.qkv(normed).view(B, N, 3, layer.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    if last > FEATURES.index('qkv'):
        tokens['attn'] = layer.attn(normed)
        tokens['attn_residual'] = x + tokens['attn']
    if last > FEATURES.index('attn_residual'):
        residual = tokens['attn_residual']
        tokens['block'] = layer.ffn(layer.ln2(residual), identity=residual)
        tokens['ffn'] = tokens['block'] - residual
    if 'final' in features:
        x = tokens['block']
        for layer in vit.layers[block:]:
            x = layer(x)
        tokens['final'] = vit.ln1(x) if vit.final_norm else x
    return {name: tokens[name] for name in features}, tuple(resolution)


def idle_parameters(vit: VisionTransformer, block: int, features: Collection[str]) -> list[nn.Parameter]:
    """The parameters that :func:`tap_vit` never reaches, and that therefore get no gradient.

    For queries, keys and values of the last block these are ten tensors: the attention's projection, the second norm
    and the MLP of that block, and the final norm.
    """
    layer, last = vit.layers[block - 1], _last(features)
    idle: list[nn.Module] = []
    if last < FEATURES.index('final'):
        idle += [*vit.layers[block:], *(m for name, m in vit.named_children() if name == 'ln1')]
    idle += [m for name, m in vit.named_children() if name == 'ln2']  # a norm behind pooling
    if last <= FEATURES.index('attn_residual'):
        idle += [layer.ln2, layer.ffn]
    if last == FEATURES.index('qkv'):
        idle += [layer.attn.proj, layer.attn.gamma1]
    return [parameter for module in idle for parameter in module.parameters()]


def _last(features: Collection[str]) -> int:
    return max(map(FEATURES.index, features))


# ---------------------------------------------------------------- a TinyViT, at stages
def check_stages(student: TinyViT, stages: Sequence[int]) -> None:
    """See that each of ``stages``, counted from 1, has attention. Raises :class:`UserError` if one has not."""
    with_attention = [i for i, stage in enumerate(student.stages, 1) if hasattr(stage.blocks[-1], 'attn')]
    if not stages or not set(stages) <= set(with_attention):
        raise UserError(f'stages={tuple(stages)} of TinyMIM must name some of the student\'s stages with attention, '
                        f'{", ".join(map(str, with_attention))}.')


def tap_stages(student: TinyViT, images: Tensor, stages: Collection[int]) -> dict[int, Tensor]:
    """Queries, keys and values of the last block of some ``stages``, counted from 1, for ``images`` ``(B, 3, H, W)``.

    What lies behind the last of them is not computed.

    Returns:
        dict: By stage, ``(3, B, C, h, w)`` with the channels of all heads one after the other.
    """
    tapped = {}
    x = student.patch_embed(images)
    for number, stage in enumerate(student.stages[:max(stages)], 1):
        x = stage.downsample(x)
        for block in stage.blocks[:-1]:
            x = stage.run(block, x)
        if number in stages:
            attn = stage.blocks[-1].attn
            qkv = attn.qkv(attn.norm(x.permute(0, 2, 3, 1)))  # (B, h, w, 3 * C), one head's q, k and v side by side
            tapped[number] = qkv.unflatten(-1, (attn.num_heads, 3, -1)).permute(4, 0, 3, 5, 1, 2).flatten(2, 3)
        if number < max(stages):
            x = stage.run(stage.blocks[-1], x)
    return tapped


def relate_on_grid(student: Tensor, teacher: Tensor, teacher_grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring both networks' queries, keys and values to the coarser grid and the teacher's heads.

    The student's are ``(3, B, C, h, w)``, the teacher's ``(3, B, H, extra + N, D / H)``, with the N patches of its grid
    last. They become ``(3, B, H, n, C / H)`` and ``(3, B, H, n, D / H)``, n being the tokens of the common grid.

    Raises:
        UserError: The student's channels cannot be cut into the teacher's heads.
    """
    heads, channels = teacher.shape[2], student.shape[2]
    if channels % heads:
        raise UserError(f'The {channels} channels of the student\'s stage cannot be cut into the {heads} heads of the '
                        'teacher\'s target block: choose a teacher whose number of heads divides them, or another '
                        'num_heads for that block (layer_cfgs of the teacher).')
    rows, columns = teacher_grid
    patches = teacher[..., teacher.shape[3] - rows * columns:, :]  # (3, B, H, N, D / H)
    patches = patches.transpose(-2, -1).flatten(2, 3).unflatten(-1, teacher_grid)  # (3, B, D, rows, columns)
    grid = min(rows, student.shape[3]), min(columns, student.shape[4])
    pooled = (F.adaptive_avg_pool2d(x.flatten(0, 1), grid).unflatten(0, x.shape[:2]) for x in (student, patches))
    return tuple(x.flatten(3).unflatten(2, (heads, -1)).transpose(-2, -1) for x in pooled)


def idle_parameters_of_stages(student: TinyViT, stages: Collection[int]) -> list[nn.Parameter]:
    """The parameters that :func:`tap_stages` never reaches."""
    last = student.stages[max(stages) - 1].blocks[-1]
    used = {id(p) for part in (last.attn.norm, last.attn.qkv) for p in part.parameters()}
    idle = [last, *student.stages[max(stages):], *(m for name, m in student.named_children() if name[:4] == 'norm')]
    return [p for module in idle for p in module.parameters() if id(p) not in used]
