"""TopFormer, written from "TopFormer: Token Pyramid Transformer for Mobile Semantic Segmentation".

Zhang et al., CVPR 2022, https://arxiv.org/abs/2204.05525. The original code is https://github.com/hustvl/TopFormer
(Apache-2.0).
"""
import math

from mmengine.logging import print_log
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.models.weights import PretrainedMixin, fill_module
from mmtinyvit.registry import MODELS

from .released_keys import rename_backbone
from .semantics import SemanticsBlock, SemanticsInjection
from .token_pyramid import TokenPyramid, pool_pyramid

__all__ = ['TopFormer']

ARCHS = {
    'tiny': dict(channels=(16, 32, 64, 96), num_last_blocks=2, num_heads=4, out_channels=128),
    'small': dict(channels=(24, 48, 96, 128), num_last_blocks=3, num_heads=6, out_channels=192),
    'base': dict(channels=(32, 64, 128, 160), num_last_blocks=3, num_heads=8, out_channels=256),
}
PARTS = ('pyramid.', 'semantics.', 'injections.')
NUM_BLOCKS, KEY_DIM, VALUE_DIM, MLP_RATIO = 4, 16, 32, 2


@MODELS.register_module()
class TopFormer(PretrainedMixin, BaseBackbone):
    """TopFormer for segmentation and classification, at any input size.

    An image of H x W pixels gives a pyramid of four maps of ``ceil(H / s)`` x ``ceil(W / s)`` at the strides
    s = 4, 8, 16, 32. Averaged to ``ceil(H / (32 * pool_stride))`` they are the tokens of a few attention blocks, whose
    output, split by channels, goes back into the maps at the strides 8, 16 and 32.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, or a dict with ``channels`` of the pyramid, ``num_last_blocks`` at
            stride 32, ``num_heads`` and ``out_channels`` of the maps.
        pool_stride: Stride of the tokens over that of the last map: 2 for segmentation, 1 for classification.
        inject: Give the three maps with the semantics; if False, the semantics alone, as a classifier takes them.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth, rising linearly from 0 to this over the attention blocks.
        init_cfg: ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')`` takes a file or URL, also of the
            released weights, and must fill every tensor, except that the injection may be missing, as it is from a
            classifier.

    Raises:
        UserError: If ``arch`` or ``pool_stride`` make no sense.
    """

    def __init__(self,
                 arch: str | dict = 'tiny',
                 pool_stride: int = 2,
                 inject: bool = True,
                 in_channels: int = 3,
                 drop_path_rate: float = 0.1,
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        if isinstance(arch, str):
            if arch not in ARCHS:
                raise UserError(f'TopFormer has no arch {arch!r}: choose one of {", ".join(ARCHS)}, or pass a dict.')
            arch = ARCHS[arch]
        if set(arch) != set(ARCHS['tiny']):
            raise UserError(f'The arch dict of TopFormer needs exactly the keys {", ".join(ARCHS["tiny"])}.')
        if pool_stride < 1:
            raise UserError(f'pool_stride={pool_stride} of TopFormer must be at least 1.')
        self.channels, self.pool_stride = tuple(arch['channels']), pool_stride
        dim = sum(self.channels)
        self.pyramid = TokenPyramid(in_channels, *_pyramid_blocks(self.channels, arch['num_last_blocks']))
        self.semantics = nn.Sequential(*(
            SemanticsBlock(dim, arch['num_heads'], KEY_DIM, VALUE_DIM, MLP_RATIO, drop_path_rate * i / (NUM_BLOCKS - 1))
            for i in range(NUM_BLOCKS)))
        self.injections = nn.ModuleList(
            SemanticsInjection(each, arch['out_channels']) for each in self.channels[1:]) if inject else None
        self._register_load_state_dict_pre_hook(_adapt)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            Maps ``(B, out_channels, ceil(H / s), ceil(W / s))`` at the strides 8, 16 and 32; or, without injection,
            the semantics ``(B, sum(channels), H', W')`` alone.
        """
        maps = self.pyramid(x)
        semantics = self.semantics(pool_pyramid(maps, self.pool_stride))
        if self.injections is None:
            return (semantics, )
        shares = semantics.split(self.channels, dim=1)
        return tuple(inject(*pair) for inject, *pair in zip(self.injections, maps[1:], shares[1:], strict=True))

    def train(self, mode: bool = True) -> 'TopFormer':
        super().train(mode)  # which gives nothing back
        return self

    def draw_weights(self) -> None:
        """The original's initialisation, then what ``init_cfg`` says."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        self.note_weights('the initialisation of TopFormer')
        super().draw_weights()

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        prefix = prefix or ''
        state_dict = read_state_dict(checkpoint)
        prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
        if not any(key.startswith(prefix) for key in state_dict):  # a bare network, as the released classifiers
            prefix = ''
        found = rename_backbone({key.removeprefix(prefix): value for key, value in state_dict.items()
                                 if key.startswith(prefix)})
        parts = PARTS if self.injections is not None else PARTS[:2]
        found = {key: value for key, value in found.items() if key.startswith(parts)}
        fresh = () if any(key.startswith('injections.') for key in found) else ('injections.', )
        filled = fill_module(self, found, checkpoint, fresh)
        print_log(f'TopFormer: {filled} of {len(self.state_dict())} tensors filled from {checkpoint}', logger='current')


def _adapt(state_dict: dict, prefix: str, *_) -> None:
    """Before loading: take the released names."""
    own = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
    renamed = rename_backbone({key.removeprefix(prefix): value for key, value in own.items()})
    state_dict.update({prefix + key: value for key, value in renamed.items()})


def _pyramid_blocks(channels: tuple[int, ...], num_last: int) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Kernel, expansion, channels and stride of every inverted residual, and which of them end a stride."""
    c1, c2, c3, c4 = channels
    blocks = [
        (3, 1, 16, 1),
        (3, 4, c1, 2), (3, 3, c1, 1),
        (5, 3, c2, 2), (5, 3, c2, 1),
        (3, 3, c3, 2), (3, 3, c3, 1),
        (5, 6, c4, 2), (5, 6, c4, 1), *[(3, 6, c4, 1)] * (num_last - 2),
    ]  # yapf: disable
    return blocks, [2, 4, 6, len(blocks) - 1]
