"""Mobile-Former, written from the paper "Mobile-Former: Bridging MobileNet and Transformer".

Chen et al., CVPR 2022, https://arxiv.org/abs/2108.05895. The public code https://github.com/AAboys/MobileFormer has no
licence: nothing is taken from it but the values of outputs to test against.
"""
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.tiny_vit import ConvNorm
from mmtinyvit.models.weights import PretrainedMixin
from mmtinyvit.registry import MODELS

from .archs import ARCHS, Arch, BlockSpec
from .block import MobileFormerBlock
from .bridges import MobileToFormer
from .mobile import LiteMobile
from .weights import fill_backbone, initialise

__all__ = ['MobileFormer']

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class MobileFormer(PretrainedMixin, BaseBackbone):
    """A MobileNet and a transformer of a few tokens side by side, with bridges between them.

    An image of H x W pixels gives maps of ``ceil(H / s)`` x ``ceil(W / s)`` at the strides s = 4, 8, 16, 32.

    Args:
        arch: ``'508m'``, ``'294m'``, ``'214m'``, ``'151m'``, ``'96m'``, ``'52m'``, ``'26m'``, or a dict with the
            fields of :class:`.Arch`, its blocks as lists of the fields of :class:`.BlockSpec`.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth of bridges and Formers, rising linearly to this in the last block.
        out_indices: Strides to output, by their number among 4, 8, 16, 32; later blocks are not built. None gives what
            ``MobileFormerClsHead`` takes: the last map, and the tokens after a last look at it.
        frozen_stages: -1 freezes nothing, 0 the stem, n the tokens and all up to the n-th of the four
            strides, so 4 everything, for a linear probe.
        norm_eval: Keep BatchNorm in eval mode while training, with the statistics of a checkpoint.
        init_cfg: Initialisation of MMEngine, on top of the original's.
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')`` must fill every tensor.

    Raises:
        UserError: If ``arch``, ``out_indices`` or ``frozen_stages`` make no sense.
    """

    def __init__(self,
                 arch: str | dict = '294m',
                 in_channels: int = 3,
                 drop_path_rate: float = 0.,
                 out_indices: int | Sequence[int] | None = None,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        arch = _resolve_arch(arch)
        ends = _stage_ends(arch)
        self.out_indices = _resolve_out_indices(out_indices)
        if not -1 <= frozen_stages <= len(STRIDES):
            raise UserError(f'frozen_stages={frozen_stages} of MobileFormer must lie between -1 and {len(STRIDES)}.')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.num_tokens, self.token_dims = arch.num_tokens, arch.token_dims
        self.embed_dims = tuple(arch.blocks[end - 1].channels for end in ends)
        last_stage = len(STRIDES) - 1 if self.out_indices is None else max(self.out_indices)
        self.stage_ends = ends[:last_stage + 1]

        self.tokens = nn.Embedding(arch.num_tokens, arch.token_dims)
        self.stem = ConvNorm(in_channels, arch.stem, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels, num_blocks = arch.stem, len(arch.blocks)
        for i, spec in enumerate(arch.blocks[:self.stage_ends[-1]]):
            if spec.kind == 'lite':
                block = LiteMobile(channels, spec.channels, spec.expand, spec.stride, arch.groups)
            else:
                rate = drop_path_rate * i / max(num_blocks - 1, 1)
                block = MobileFormerBlock(channels, spec, arch.token_dims, arch.groups, rate)
            self.blocks.append(block)
            channels = spec.channels
        if self.out_indices is None:
            self.last_bridge = MobileToFormer(channels, arch.token_dims, drop_path=drop_path_rate)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Compute the maps, or what the classification head takes.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            One map ``(B, C, ceil(H/s), ceil(W/s))`` per entry of ``out_indices``, contiguous; without ``out_indices``
            one pair of the map ``(B, C, ceil(H/32), ceil(W/32))`` and the tokens ``(B, T, D)``.
        """
        maps = []
        tokens = self.tokens.weight.expand(x.shape[0], -1, -1)
        x = F.relu6(self.stem(x))
        for i, block in enumerate(self.blocks, start=1):
            if i == 1:  # the lite one, by its place: another module may stand there
                x = block(x)
            else:
                x, tokens = block(x, tokens)
            if i in self.stage_ends:
                maps.append(x)
        if self.out_indices is None:
            return ((x, self.last_bridge(x, tokens)), )
        # maps leave in plain NCHW memory: mmcv's RoIAlign takes any other for it, and silently mixes up pixels
        return tuple(maps[i].contiguous() for i in self.out_indices)

    def draw_weights(self) -> None:
        """The original's initialisation, then what ``init_cfg`` says."""
        initialise(self)
        self.note_weights('the initialisation of MobileFormer')
        super().draw_weights()

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        fill_backbone(self, checkpoint, prefix or '')

    def train(self, mode: bool = True) -> 'MobileFormer':
        super().train(mode)
        if mode:
            self._freeze()
            if self.norm_eval:
                self.keep_statistics()
        return self

    def fuse(self) -> 'MobileFormer':
        """Fold every BatchNorm into its convolution, in place and for good: for inference, not for training."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay: tokens and stem 0, then one per block, everything else the last.

        Args:
            param_name: Full name of the parameter.
            prefix: Prefix of the backbone in it, for example ``'backbone.'``.

        Returns:
            The depth and the number of depths.
        """
        num_depths = len(self.blocks) + 2
        name = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix) or name[0] not in ('tokens', 'stem', 'blocks'):
            return num_depths - 1, num_depths
        return (int(name[1]) + 1 if name[0] == 'blocks' else 0), num_depths

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem]
        if self.frozen_stages:
            frozen += [self.tokens, *self.blocks[:self.stage_ends[min(self.frozen_stages, len(self.stage_ends)) - 1]]]
        if self.frozen_stages == len(STRIDES) and self.out_indices is None:
            frozen.append(self.last_bridge)
        for module in frozen:
            module.eval()
            module.requires_grad_(False)


def _resolve_arch(arch: str | dict) -> Arch:
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'MobileFormer has no arch {arch!r}: choose one of {", ".join(ARCHS)}, or pass a dict.')
        return ARCHS[arch]
    try:
        arch = Arch(**arch)
        arch = arch._replace(blocks=tuple(BlockSpec(*spec) for spec in arch.blocks))
    except TypeError as error:
        raise UserError(f'The arch dict of MobileFormer is wrong ({error}): its fields are '
                        f'{", ".join(Arch._fields)}, those of a block {", ".join(BlockSpec._fields)}.') from error
    if arch.blocks[0].kind != 'lite' or {spec.kind for spec in arch.blocks[1:]} - {'down', 'mobile'}:
        raise UserError("MobileFormer needs a first block of kind 'lite', and all others 'down' or 'mobile'.")
    return arch


def _stage_ends(arch: Arch) -> tuple[int, ...]:
    """After how many blocks the strides 4, 8, 16 and 32 are finished."""
    strides = list(accumulate((spec.stride for spec in arch.blocks), mul, initial=2))[1:]  # 2 is the stem's
    if strides[-1] != STRIDES[-1]:
        raise UserError(f'The blocks of MobileFormer must reach a stride of {STRIDES[-1]}, not {strides[-1]}.')
    return tuple(len(strides) - strides[::-1].index(stride) for stride in STRIDES)


def _resolve_out_indices(out_indices: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if out_indices is None:
        return None
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    resolved = tuple(i + len(STRIDES) if i < 0 else i for i in indices)
    if not resolved or any(not 0 <= i < len(STRIDES) for i in resolved):
        raise UserError(f'out_indices={out_indices} of MobileFormer must name some of its {len(STRIDES)} strides.')
    return resolved
