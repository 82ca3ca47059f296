"""Relations between a window-attention student and a vision transformer: both on a common grid of tokens.

TinyViT attends inside windows, at several strides, and has no class token. Yet a block's queries, keys and values are
made token by token, so all tokens of a map can be related to one another, as a vision transformer's are:

- the student's map at a stage, normalised and projected by the last block of that stage, gives q, k and v for each of
  its h x w tokens; at 224 pixels 14 x 14 at stage 3 and 7 x 7 at stage 4;
- the teacher's class token is left out, which leaves its grid of patches, 14 x 14 for patches of 16 pixels;
- the common grid is the coarser of the two, and on the finer one q, k and v are averaged over each cell;
- the student's channels are cut into as many heads as the teacher has, as in TinyMIM's adaptive block. The learnt
  biases of the attention belong to its windows and take no part.
"""
from collections.abc import Collection, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmtinyvit.errors import UserError

from ..backbones.tiny_vit import TinyViT
from ..backbones.window_attention import WindowAttention

__all__ = ['check_stages', 'idle_parameters_of_stages', 'relate_on_grid', 'tap_stages']


def check_stages(student: TinyViT, stages: Sequence[int]) -> None:
    """See that each of ``stages``, counted from 1, has attention. Raises :class:`UserError` if one has not."""
    there = [i for i, stage in enumerate(student.stages, 1) if hasattr(stage.blocks[-1], 'attn')]
    if not stages or not set(stages) <= set(there):
        raise UserError(f'stages={tuple(stages)} of TinyMIM must name some of the student\'s stages with attention, '
                        f'{", ".join(map(str, there))}.')


def tap_stages(student: TinyViT, images: Tensor, stages: Collection[int]) -> dict[int, Tensor]:
    """Queries, keys and values of the last block of some stages; what lies behind the last of them is not computed.

    Args:
        student: The network.
        images: ``(B, 3, H, W)``.
        stages: Counted from 1.

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
            tapped[number] = _project(stage.blocks[-1].attn, x)
        if number < max(stages):
            x = stage.run(stage.blocks[-1], x)
    return tapped


def _project(attn: WindowAttention, x: Tensor) -> Tensor:
    """``(B, C, h, w)`` to ``(3, B, C, h, w)``."""
    qkv = attn.qkv(attn.norm(x.permute(0, 2, 3, 1)))  # (B, h, w, 3 * C), one head's q, k and v side by side
    return qkv.unflatten(-1, (attn.num_heads, 3, -1)).permute(4, 0, 3, 5, 1, 2).flatten(2, 3)


def relate_on_grid(student: Tensor, teacher: Tensor, teacher_grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring both networks' queries, keys and values to the coarser grid and the teacher's heads.

    Args:
        student: ``(3, B, C, h, w)``.
        teacher: ``(3, B, H, extra + N, D / H)``, class and other extra tokens first.
        teacher_grid: Rows and columns of the N patches.

    Returns:
        tuple: ``(3, B, H, n, C / H)`` and ``(3, B, H, n, D / H)``, n being the tokens of the common grid.

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
    return tuple(_pool(each, grid).unflatten(2, (heads, -1)).transpose(-2, -1) for each in (student, patches))


def _pool(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(3, B, C, h, w)`` to ``(3, B, C, n)``, averaged over cells where the grid is coarser."""
    if x.shape[3:] != grid:
        x = F.adaptive_avg_pool2d(x.flatten(0, 1), grid).unflatten(0, x.shape[:2])
    return x.flatten(3)


def idle_parameters_of_stages(student: TinyViT, stages: Collection[int]) -> list[nn.Parameter]:
    """The parameters that :func:`tap_stages` never reaches."""
    last = student.stages[max(stages) - 1].blocks[-1]
    used = {id(p) for part in (last.attn.norm, last.attn.qkv) for p in part.parameters()}
    idle = [last, *student.stages[max(stages):], *(m for name, m in student.named_children() if name[:4] == 'norm')]
    return [p for module in idle for p in module.parameters() if id(p) not in used]
