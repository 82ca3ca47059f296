"""TinyViT, written from the paper "TinyViT: Fast Pretraining Distillation for Small Vision Transformers".

Wu et al., ECCV 2022, https://arxiv.org/abs/2207.10666. The original code is
https://github.com/microsoft/Cream/tree/main/TinyViT (MIT); its checkpoints, timm's and mmpretrain's load as they are,
see :mod:`mmtinyvit.models.checkpoint_keys`.

Shapes: B images, C channels, maps of H x W tokens, windows of N = w * w tokens, heads of d = C / heads channels.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..checkpoint_keys import MARKS, adapt_state_dict, convert_in_place, convert_state_dict, find_tiny_vit
from ..checkpoints import read_state_dict
from ..weights import PretrainedMixin, fill_module

__all__ = ['ConvNorm', 'MBConv', 'Mlp', 'PatchEmbed', 'PatchMerging', 'Stage', 'TinyViT', 'TinyViTBlock',
           'WindowAttention']

ARCHS = {
    '5m': dict(embed_dims=(64, 128, 160, 320), num_heads=(2, 4, 5, 10)),
    '11m': dict(embed_dims=(64, 128, 256, 448), num_heads=(2, 4, 8, 14)),
    '21m': dict(embed_dims=(96, 192, 384, 576), num_heads=(3, 6, 12, 18)),
}
DEFAULTS = dict(depths=(2, 2, 6, 2), window_sizes=(7, 7, 14, 7), mlp_ratio=4., mbconv_expand_ratio=4.)
PER_STAGE = ('embed_dims', 'num_heads', 'depths', 'window_sizes')


class ConvNorm(nn.Module):
    """Convolution without bias, padded by half of its kernel, and BatchNorm.

    The norm's weight starts at ``norm_weight``; 0 makes a residual branch the identity.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 1,
                 stride: int = 1,
                 groups: int = 1,
                 norm_weight: float = 1.):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups,
                              bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, norm_weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def fuse(self) -> None:
        """Fold the norm into the convolution for good, for inference; other layers in their places stay as they are."""
        foldable = _is_plain(self.conv, nn.Conv2d) and _is_plain(self.bn, nn.BatchNorm2d, nn.SyncBatchNorm)
        if foldable and self.bn.running_mean is not None:
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval())
            self.bn = nn.Identity()


def _is_plain(module: nn.Module, *types: type[nn.Module]) -> bool:
    """Whether ``module`` computes what one of the ``types`` does: no subclass, no hook and no pruning changes that."""
    return type(module) in types and not module._forward_pre_hooks and not module._forward_hooks


class PatchEmbed(nn.Module):
    """Stem: two 3x3 convolutions of stride 2."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels // 2, 3, stride=2)
        self.act = nn.GELU()
        self.conv2 = ConvNorm(out_channels // 2, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # in channels-last memory (B, C, H, W) maps and (B, H, W, C) tokens are views of one another; torch.vmap knows
        # contiguous() without a memory format alone
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # (B, 3, 4 H, 4 W)
        return self.conv2(self.act(self.conv1(x)))  # (B, C, H, W)


class MBConv(nn.Module):
    """Inverted bottleneck with a GELU behind the sum."""

    def __init__(self, channels: int, expand_ratio: float, drop_path: float):
        super().__init__()
        hidden = int(channels * expand_ratio)
        self.conv1 = ConvNorm(channels, hidden)
        self.act1 = nn.GELU()
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.act2 = nn.GELU()
        self.conv3 = ConvNorm(hidden, channels, norm_weight=0.)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.act3 = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.conv1(x))  # (B, C, H, W) to (B, ratio * C, H, W)
        out = self.act2(self.conv2(out))
        out = self.conv3(out)  # (B, C, H, W)
        return self.act3(x + self.drop_path(out))


class PatchMerging(nn.Module):
    """Halve the side of a map, rounding up, and change its channels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels)
        self.act1 = nn.GELU()
        self.conv2 = ConvNorm(out_channels, out_channels, 3, stride=2, groups=out_channels)
        self.act2 = nn.GELU()
        self.conv3 = ConvNorm(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.conv1(x))  # (B, C, H, W) to (B, out, H, W)
        x = self.act2(self.conv2(x))  # (B, out, ceil(H / 2), ceil(W / 2))
        return self.conv3(x)


def window_offsets(window_size: int) -> Tensor:
    """Where the bias of each pair of a window's N tokens stands, ``(N, N)`` int64."""
    side = torch.arange(window_size, device='cpu')
    apart = (side[:, None] - side).abs()  # (w, w)
    offsets = apart[:, None, :, None] * window_size + apart[None, :, None, :]  # (w, w, w, w)
    return offsets.reshape(window_size**2, -1)


@torch.fx.wrap  # one node of a graph, since how much there is to pad depends on the input
def fill_windows(x: Tensor, window_size: int) -> Tensor:
    """Pad tokens ``(B, H, W, C)`` with zeros on the right and at the bottom, up to whole windows."""
    _, H, W, _ = x.shape
    right, bottom = -W % window_size, -H % window_size
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if right or bottom else x


class WindowAttention(nn.Module):
    """Multi-head self-attention inside square windows, with one learnt bias per head and offset.

    The attention bias comes from LeViT (https://arxiv.org/abs/2104.01136), the windows from Swin. Windows are not
    shifted: the depthwise convolution behind the attention connects them. As in the original, a map that windows do not
    fill is padded with zeros on the right and at the bottom, before the LayerNorm and unmasked.

    Args:
        dim: Channels, ``num_heads`` times the width of a head.
        num_heads: Number of heads.
        window_size: Side of a window in tokens.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int):
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        # the bias of two tokens dy rows and dx columns apart is at dy * window_size + dx: the sign does not count
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        self.register_buffer('attention_bias_idxs', window_offsets(window_size), persistent=False)  # (N, N)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # into a module that was built on the meta device, too
        self.attention_bias_idxs = window_offsets(self.window_size).to(self.attention_biases.device)

    def forward(self, x: Tensor) -> Tensor:
        """Attend in every window of the tokens ``x`` ``(B, H, W, C)``; the output has the same shape."""
        _, H, W, C = x.shape
        w = self.window_size
        x = fill_windows(x, w)
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)  # (B, rows, columns, w, w, C)
        windows = x.shape[:3]
        x = self.norm(x.reshape(-1, w * w, C))  # (B * rows * columns, N, C)
        # one head's query, key and value lie side by side in the published weights
        qkv = self.qkv(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (windows, heads, N, 3 * d)
        q, k, v = qkv.chunk(3, dim=-1)  # each (windows, heads, N, d)
        bias = self.attention_biases[:, self.attention_bias_idxs]  # (heads, N, N)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (windows, heads, N, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (windows, N, C)
        x = x.unflatten(1, (w, w)).unflatten(0, windows).transpose(2, 3)  # (B, rows, w, columns, w, C)
        return x.flatten(3, 4).flatten(1, 2)[:, :H, :W]


class Mlp(nn.Module):
    """LayerNorm and two linear layers, on tokens ``(..., C)``."""

    def __init__(self, dim: int, ratio: float):
        super().__init__()
        hidden = int(dim * ratio)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, a 3x3 depthwise convolution, and an MLP."""

    def __init__(self, dim: int, num_heads: int, window_size: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.attn = WindowAttention(dim, num_heads, window_size)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim, mlp_ratio)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, C, H, W) to (B, H, W, C)
        x = x + self.drop_path(self.attn(x))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.drop_path(self.mlp(x))
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)


class Stage(nn.Module):
    """Down-sampling, where there is one, and blocks."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], with_cp: bool):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = self.run(block, x)
        return x

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run one of the blocks, recomputed in the backward pass where ``with_cp`` says so."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _recompute(block)))
        return block(x)


@contextmanager
def _recompute(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics as they are: the forward pass has counted this batch already."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)


@MODELS.register_module()
class TinyViT(PretrainedMixin, BaseBackbone):
    """TinyViT for classification and dense prediction, at any input size.

    An image of H x W pixels gives maps of ``ceil(H / s)`` x ``ceil(W / s)`` at the strides s = 4, 8, 16, 32 (every
    convolution of stride 2 rounds up).

    Args:
        arch: ``'5m'``, ``'11m'``, ``'21m'``, or a dict with ``embed_dims`` and ``num_heads``, and optionally ``depths``
            and ``window_sizes``, each with one entry per stage, ``mlp_ratio`` and ``mbconv_expand_ratio``. The first
            stage is convolutional and ignores its heads and window.
        window_sizes: Sides of the attention windows in tokens, one per stage, instead of the arch's (7, 7, 14, 7).
            Checkpoints for other windows are interpolated while loading.
        in_channels: Channels of the image.
        mlp_ratio: Hidden width of an MLP over its width, instead of the arch's 4.
        mbconv_expand_ratio: Hidden width of an inverted bottleneck over its width, instead of the arch's 4.
        drop_path_rate: Stochastic depth: 0 in the first block, rising linearly to this in the last.
        out_indices: Stages to output, in this order. Later stages are not built.
        gap_before_output: Output pooled and normalised vectors ``(B, C)``, as a linear classification head takes them;
            if False, the plain maps ``(B, C, H, W)``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with the norms of their
            outputs; so the number of stages freezes everything, for a linear probe.
        norm_eval: Keep BatchNorm in eval mode while training, with the statistics of a checkpoint.
        with_cp: Recompute each block in the backward pass instead of keeping its intermediates.
        init_cfg: Initialisation of MMEngine. By default linear layers get a truncated normal of std 0.02, and
            convolutions PyTorch's own initialisation. ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
            takes a file or URL in any layout, and must fill every tensor.

    Raises:
        UserError: If ``arch``, ``window_sizes``, ``out_indices`` or ``frozen_stages`` make no sense.
    """

    def __init__(self,
                 arch: str | dict = '5m',
                 window_sizes: Sequence[int] | None = None,
                 in_channels: int = 3,
                 mlp_ratio: float | None = None,
                 mbconv_expand_ratio: float | None = None,
                 drop_path_rate: float = 0.,
                 out_indices: int | Sequence[int] = (3, ),
                 gap_before_output: bool = True,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = (
                     dict(type='TruncNormal', layer='Linear', std=.02, bias=0.),
                     dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
                 )):
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        arch = resolve_arch(arch, dict(window_sizes=window_sizes, mlp_ratio=mlp_ratio,
                                       mbconv_expand_ratio=mbconv_expand_ratio))
        self.embed_dims, self.depths = arch['embed_dims'], arch['depths']
        num_stages = len(self.depths)
        indices = [out_indices] if isinstance(out_indices, int) else out_indices
        self.out_indices = tuple(i + num_stages if i < 0 else i for i in indices)
        if not self.out_indices or not {*self.out_indices} <= {*range(num_stages)}:
            raise UserError(f'out_indices={out_indices} of TinyViT must name some of its {num_stages} stages.')
        if not -1 <= frozen_stages <= num_stages:
            raise UserError(f'frozen_stages={frozen_stages} of TinyViT must lie between -1 and {num_stages}.')
        self.gap_before_output = gap_before_output
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        num_blocks = sum(self.depths)
        rates = iter(drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks))
        self.patch_embed = PatchEmbed(in_channels, self.embed_dims[0])
        self.stages = nn.ModuleList()
        for i in range(max(self.out_indices) + 1):
            dim, depth = self.embed_dims[i], self.depths[i]
            if i == 0:
                downsample = nn.Identity()
                blocks = [MBConv(dim, arch['mbconv_expand_ratio'], next(rates)) for _ in range(depth)]
            else:
                downsample = PatchMerging(self.embed_dims[i - 1], dim)
                heads, window = arch['num_heads'][i], arch['window_sizes'][i]
                blocks = [TinyViTBlock(dim, heads, window, arch['mlp_ratio'], next(rates)) for _ in range(depth)]
            self.stages.append(Stage(downsample, blocks, with_cp))
        if gap_before_output:
            for i in self.out_indices:
                self.add_module(f'norm{i}', nn.LayerNorm(self.embed_dims[i]))
        self._freeze()
        self._register_load_state_dict_pre_hook(self._adapt)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the stages in ``out_indices``.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            One tensor per entry of ``out_indices``, in their order: ``(B, C)`` if ``gap_before_output``, else
            ``(B, C, ceil(H/s), ceil(W/s))``, contiguous.
        """
        outs = {}
        x = self.patch_embed(x)  # (B, C, ceil(H/4), ceil(W/4))
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices and self.gap_before_output:
                outs[i] = getattr(self, f'norm{i}')(x.mean((2, 3)))  # (B, C)
            elif i in self.out_indices:
                # in plain NCHW memory: mmcv's RoIAlign takes any other for it, and silently mixes up pixels
                outs[i] = x.contiguous()
        return tuple(outs[i] for i in self.out_indices)

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        found, place = find_tiny_vit(read_state_dict(checkpoint), checkpoint, prefix)
        filled = fill_module(self, found, checkpoint)
        print_log(f'TinyViT: all {filled} tensors filled from {checkpoint}' + (f' (under {place})' if place else ''),
                  logger='current')

    def train(self, mode: bool = True) -> 'TinyViT':
        super().train(mode)
        if mode:
            self._freeze()
            if self.norm_eval:
                self.keep_statistics()
        return self

    def fuse(self) -> 'TinyViT':
        """Fold every BatchNorm into its convolution, in place and for good: for inference, not for training.

        Layers that were exchanged, hooked, pruned or parametrised stay as they are. The state dict changes its keys
        with it, so load checkpoints before.
        """
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth i of a parameter for layer-wise decay of the rate, and the number of depths D, as in the original.

        Depth i is scaled by ``decay ** (D - 1 - i)``. Each block is one; the stem counts as the first block, a
        down-sampling layer as the block before it, the final norm and everything behind the backbone as the last.
        ``prefix`` is that of the backbone in the name, for example ``'backbone.'``.
        """
        num_depths = sum(self.depths)
        name = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix) or name[0] not in ('patch_embed', 'stages'):
            return num_depths - 1, num_depths
        if name[0] == 'patch_embed':
            return 0, num_depths
        before = sum(self.depths[:int(name[1])])
        return (before - 1 if name[2] == 'downsample' else before + int(name[3])), num_depths

    def _adapt(self, state_dict: dict, prefix: str, *_) -> None:
        """Before loading: take the checkpoints of Cream, timm and mmpretrain, for any window."""
        adapt_state_dict(state_dict, self.state_dict(), prefix)

    _checkpoint_filter = staticmethod(partial(convert_in_place, marks=MARKS,
                                              convert=partial(convert_state_dict, prefix='backbone.')))

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        norms = [getattr(self, f'norm{i}', nn.Identity()) for i in self.out_indices if i < self.frozen_stages]
        for module in (self.patch_embed, *self.stages[:self.frozen_stages], *norms):
            module.eval()
            module.requires_grad_(False)


def resolve_arch(arch: str | dict, overrides: dict) -> dict:
    """An architecture with all its settings, from its name or a dict; ``overrides`` replace them where not None.

    Raises:
        UserError: If they make no sense.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'TinyViT has no arch {arch!r}: choose one of {", ".join(ARCHS)}, or pass a dict.')
        arch = ARCHS[arch]
    if missing := {'embed_dims', 'num_heads'} - arch.keys():
        raise UserError(f'The arch dict of TinyViT lacks {", ".join(sorted(missing))}.')
    if unknown := arch.keys() - {*PER_STAGE, *DEFAULTS}:
        raise UserError(f'The arch dict of TinyViT has no entry {sorted(unknown)[0]}: choose from '
                        f'{", ".join(dict.fromkeys([*PER_STAGE, *DEFAULTS]))}.')
    arch = {**DEFAULTS, **arch, **{name: value for name, value in overrides.items() if value is not None}}
    stages = {name: tuple(arch[name]) for name in PER_STAGE}
    if len({len(values) for values in stages.values()}) != 1:
        raise UserError(f'TinyViT needs one entry per stage in each of its lists, but got {stages}.')
    if any(dim % heads for dim, heads in zip(stages['embed_dims'], stages['num_heads'], strict=True)):
        raise UserError(f'In TinyViT each of embed_dims={stages["embed_dims"]} must be a multiple of its '
                        f'num_heads={stages["num_heads"]}.')
    return arch | stages
