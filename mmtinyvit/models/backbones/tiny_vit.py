"""TinyViT, written from the paper "TinyViT: Fast Pretraining Distillation for Small Vision Transformers".

Wu et al., ECCV 2022, https://arxiv.org/abs/2207.10666. The original code is
https://github.com/microsoft/Cream/tree/main/TinyViT (MIT); its checkpoints, timm's and mmpretrain's load as they are.
"""
from collections.abc import Sequence

import torch
from mmengine.model import update_init_info
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from .tiny_vit_archs import resolve_arch, resolve_out_indices
from .tiny_vit_keys import adapt_state_dict, convert_state_dict, detect_layout
from .tiny_vit_layers import ConvNorm, MBConv, PatchEmbed, PatchMerging, Stage, TinyViTBlock
from .tiny_vit_weights import load_pretrained, split_init_cfg
from .token_linear import TokenLinear
from .watched import is_recorded, is_watched

__all__ = ['TinyViT']

CACHED_PIXELS = 2**17  # two images of 224 x 224: the widest maps then take 3 MiB in bfloat16 and 6 in float32


@MODELS.register_module()
class TinyViT(BaseBackbone):
    """TinyViT for classification and dense prediction, at any input size.

    An image of H x W pixels gives maps of ``ceil(H / s)`` x ``ceil(W / s)`` at the strides s = 4, 8, 16, 32 (every
    convolution of stride 2 rounds up). Windows that stick out of a map see zeros there, as in the original.

    Args:
        arch: ``'5m'``, ``'11m'``, ``'21m'``, or a dict with ``embed_dims`` and ``num_heads``, and optionally ``depths``
            and ``window_sizes``, each with one entry per stage. The first stage is convolutional and ignores its
            heads and window.
        window_sizes: Sides of the attention windows in tokens, one per stage; (7, 7, 14, 7) by default. Checkpoints
            for other windows are interpolated while loading.
        in_channels: Channels of the image.
        mlp_ratio: Hidden width of an MLP over its width.
        mbconv_expand_ratio: Hidden width of an inverted bottleneck over its width.
        drop_path_rate: Stochastic depth: 0 in the first block, rising linearly to this in the last.
        out_indices: Stages to output. Later stages are not built.
        gap_before_output: Output pooled and normalised vectors ``(B, C)``, as a linear classification head takes them;
            if False, the plain maps ``(B, C, H, W)``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages with the norms of their
            outputs; so the number of stages freezes everything, for a linear probe.
        norm_eval: Keep BatchNorm in eval mode while training.
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
                 mlp_ratio: float = 4.,
                 mbconv_expand_ratio: float = 4.,
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
        arch = resolve_arch(arch, window_sizes)
        self.embed_dims, self.depths = arch['embed_dims'], arch['depths']
        num_stages = len(self.depths)
        self.out_indices = resolve_out_indices(out_indices, num_stages)
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
                blocks = [MBConv(dim, mbconv_expand_ratio, next(rates)) for _ in range(depth)]
            else:
                downsample = PatchMerging(self.embed_dims[i - 1], dim)
                heads, window = arch['num_heads'][i], arch['window_sizes'][i]
                blocks = [TinyViTBlock(dim, heads, window, mlp_ratio, next(rates)) for _ in range(depth)]
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
            One tensor per output stage: ``(B, C)`` if ``gap_before_output``, else ``(B, C, ceil(H/s), ceil(W/s))``,
            contiguous.
        """
        x = self._first_stage(x)
        maps = [x] if 0 in self.out_indices else []
        for i, stage in enumerate(self.stages[1:], 1):
            x = stage(x)
            if i in self.out_indices:
                maps.append(x)
        if self.gap_before_output:
            norms = (getattr(self, f'norm{i}') for i in sorted(set(self.out_indices)))
            return tuple(norm(x.mean((2, 3))) for norm, x in zip(norms, maps, strict=True))
        # maps leave in plain NCHW memory: mmcv's RoIAlign takes any other for it, and silently mixes up pixels
        return tuple(x.contiguous() for x in maps)

    def _first_stage(self, x: Tensor) -> Tensor:
        """Stem and first stage; in inference on a CPU, a few images at a time, so that the maps stay in the cache."""
        images = max(1, CACHED_PIXELS // (x.shape[2] * x.shape[3]))
        if (self.training or torch.is_grad_enabled() or is_recorded() or x.device.type != 'cpu' or images >= x.shape[0]
                or is_watched(self.patch_embed) or is_watched(self.stages[0])):
            return self.stages[0](self.patch_embed(x))
        return torch.cat([self.stages[0](self.patch_embed(piece)) for piece in x.split(images)])

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says.

        Raises:
            UserError: A ``Pretrained`` checkpoint does not fill the backbone.
        """
        if self.is_init:
            return
        pretrained, self.init_cfg = split_init_cfg(self.init_cfg)
        super().init_weights()
        for settings in pretrained:
            load_pretrained(self, settings['checkpoint'], settings.get('prefix'))
            if hasattr(self, '_params_init_info'):  # what MMEngine writes into the log file
                update_init_info(self, init_info=f'Pretrained: load from {settings["checkpoint"]}')

    def train(self, mode: bool = True) -> 'TinyViT':
        super().train(mode)
        if mode:
            self._freeze()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def fuse(self) -> 'TinyViT':
        """Fold every BatchNorm into its convolution, in place and for good: for inference, not for training.

        The state dict changes its keys with it, so load checkpoints before. On a CPU linear layers hold their weights a
        second time from then on, in the order in which they are read.
        """
        for module in self.modules():
            if isinstance(module, (ConvNorm, TokenLinear)):
                module.fuse()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rate decay, by the rule of the original.

        With D blocks the i-th is scaled by ``decay ** (D - 1 - i)``. The stem counts as the first block, a
        down-sampling layer as the block before it, the final norm and everything behind the backbone as the last.

        Args:
            param_name: Full name of the parameter.
            prefix: Prefix of the backbone in it, for example ``'backbone.'``.

        Returns:
            The depth and the number of depths D.
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

    @staticmethod
    def _checkpoint_filter(state_dict: dict, prefix: str, *_) -> None:
        """Before loading an ``ImageClassifier`` around this backbone, which registers this by its name.

        Checkpoints of Cream and timm hold a whole classifier without ``backbone.``: here it gets that prefix.
        """
        bare = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if detect_layout(bare.get('model', bare)) is None:
            return
        renamed = convert_state_dict(bare, prefix='backbone.')
        for key in bare:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in renamed.items()})

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        norms = [getattr(self, f'norm{i}', nn.Identity()) for i in self.out_indices if i < self.frozen_stages]
        for module in (self.patch_embed, *self.stages[:self.frozen_stages], *norms):
            module.eval()
            module.requires_grad_(False)
