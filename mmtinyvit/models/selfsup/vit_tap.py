"""Tokens from the inside of a vision transformer, without computing what lies behind them."""
from collections.abc import Collection

import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.selfsup import MAEViT
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmtinyvit.errors import UserError

from ..losses.feature_distillation import FEATURES

__all__ = ['check_vit', 'embed_patches', 'idle_parameters', 'tap_vit', 'visible_patches']


def check_vit(vit: nn.Module, block: int, role: str) -> None:
    """See that ``vit`` computes its tokens as :func:`tap_vit` does, and has a block number ``block``.

    Raises:
        UserError: It does not; ``role`` says whose backbone it is.
    """
    if getattr(type(vit), 'forward', None) not in (VisionTransformer.forward, MAEViT.forward):
        raise UserError(f'The {role} {type(vit).__name__} cannot be tapped: TinyMIM needs a mmpretrain '
                        'VisionTransformer or MAEViT'
                        f'{", or a mmtinyvit.TinyViT" if role == "student" else ""}.')
    if not 1 <= block <= vit.num_layers:
        raise UserError(f'The {role} {type(vit).__name__} has blocks 1 to {vit.num_layers}, and no block {block}.')


def visible_patches(mask: Tensor) -> Tensor:
    """The numbers of the patches that a mask leaves visible.

    Args:
        mask: ``(B, h, w)``, 1 where a patch is hidden; as many in each image.

    Returns:
        Tensor: ``(B, n)`` int64, ascending.

    Raises:
        UserError: The images differ in the number of visible patches, or one has none.
    """
    hidden = mask.flatten(1) != 0
    counts = set((~hidden).sum(1).tolist())
    if len(counts) != 1 or 0 in counts:
        raise UserError(f'The masks of a batch leave {", ".join(map(str, sorted(counts)))} patches visible: every '
                        'image needs the same number, and at least one, as from SimMIMMaskGenerator.')
    return hidden.byte().argsort(dim=1, stable=True)[:, :counts.pop()]


def embed_patches(vit: VisionTransformer, images: Tensor,
                  visible: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
    """What the first block of ``vit`` gets.

    Args:
        vit: The network.
        images: ``(B, 3, H, W)``.
        visible: Patches to keep, ``(B, n)``; all by default.

    Returns:
        tuple: ``(B, extra + n, D)``, with the class token, if there is one, before the patches; and the rows and
        columns of the image in patches.

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
    return vit.pre_norm(vit.drop_after_pos(x)), tuple(resolution)


def tap_vit(vit: VisionTransformer, images: Tensor, block: int, features: Collection[str],
            visible: Tensor | None = None) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Run ``vit`` up to what is asked for, and no further.

    Args:
        vit: The network.
        images: ``(B, 3, H, W)``.
        block: The block to look into, from 1.
        features: Some of :data:`~mmtinyvit.models.losses.feature_distillation.FEATURES`. For ``'qkv'`` alone the block
            itself is not completed.
        visible: Patches to keep, ``(B, n)``; all by default.

    Returns:
        tuple: The tokens by feature, ``'qkv'`` as ``(3, B, H, N, D / H)`` and everything else as ``(B, N, D)``; and the
        rows and columns of the image in patches.
    """
    x, resolution = embed_patches(vit, images, visible)
    for layer in vit.layers[:block - 1]:
        x = layer(x)
    layer, tokens = vit.layers[block - 1], {}
    normed = layer.ln1(x)
    if 'qkv' in features:
        B, N, _ = normed.shape
        tokens['qkv'] = layer.attn.qkv(normed).view(B, N, 3, layer.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    if _last(features) > FEATURES.index('qkv'):
        tokens['attn'] = layer.attn(normed)
        tokens['attn_residual'] = x + tokens['attn']
    if _last(features) > FEATURES.index('attn_residual'):
        residual = tokens['attn_residual']
        tokens['block'] = layer.ffn(layer.ln2(residual), identity=residual)
        tokens['ffn'] = tokens['block'] - residual
    if 'final' in features:
        x = tokens['block']
        for layer in vit.layers[block:]:
            x = layer(x)
        tokens['final'] = vit.ln1(x) if vit.final_norm else x
    return {name: tokens[name] for name in features}, resolution


def idle_parameters(vit: VisionTransformer, block: int, features: Collection[str]) -> list[nn.Parameter]:
    """The parameters that :func:`tap_vit` never reaches, and that therefore get no gradient.

    For queries, keys and values of the last block these are ten tensors: the attention's projection, the second norm
    and the MLP of that block, and the final norm.
    """
    layer, last = vit.layers[block - 1], _last(features)
    idle: list[nn.Module] = []
    if last < FEATURES.index('final'):
        idle += [*vit.layers[block:], *(getattr(vit, name) for name in ('ln1', 'ln2') if hasattr(vit, name))]
    elif hasattr(vit, 'ln2'):  # a norm behind pooling
        idle.append(vit.ln2)
    if last <= FEATURES.index('attn_residual'):
        idle += [layer.ln2, layer.ffn]
    if last == FEATURES.index('qkv'):
        idle += [layer.attn.proj, layer.attn.gamma1]
    return [parameter for module in idle for parameter in module.parameters()]


def _last(features: Collection[str]) -> int:
    return max(map(FEATURES.index, features))
