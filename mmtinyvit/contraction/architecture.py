"""An architecture of TinyViT by its contraction factors: as a short name, and as the dict that ``TinyViT`` takes."""
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.tiny_vit import resolve_arch

__all__ = ['FACTORS', 'STAGES', 'Architecture']

STAGES = 4
FACTORS = ('D1', 'D2', 'D3', 'D4', 'N1', 'N2', 'N3', 'N4', 'W2', 'W3', 'W4', 'R', 'M', 'E')
_NUMBERS, _RATIO = r'[1-9]\d*(?:-[1-9]\d*)*', r'(\d+(?:\.\d+)?)'
_NAME = re.compile(rf'd({_NUMBERS})_n({_NUMBERS})_w({_NUMBERS})_r{_RATIO}_m{_RATIO}_e({_NUMBERS})')


@dataclass(frozen=True)
class Architecture:
    """A TinyViT of four stages, of which the first is convolutional and has neither windows nor heads.

    Args:
        dims: D1 to D4, channels of each stage.
        depths: N1 to N4, blocks of each stage.
        windows: W2 to W4, sides of the attention windows in tokens.
        expand_ratio: R, hidden width of an inverted bottleneck over its width.
        mlp_ratio: M, hidden width of an MLP over its width.
        head_dims: E, channels of a head, in the stages 2 to 4. The factor E sets all three; a seed may have others.

    Raises:
        UserError: A stage's channels are no multiple of its heads', or there are not as many entries as stages.
    """
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    windows: tuple[int, ...]
    expand_ratio: float
    mlp_ratio: float
    head_dims: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = [len(self.dims), len(self.depths), len(self.windows) + 1, len(self.head_dims) + 1]
        if sizes != [STAGES] * 4:
            raise UserError(f'A contraction needs a TinyViT of {STAGES} stages, and this one has {max(sizes)}: take '
                            'another seed.')
        if not self.is_valid:
            raise UserError(f'The channels {self.dims[1:]} of the stages 2 to 4 must be multiples of the channels '
                            f'of a head, {self.head_dims}.')

    # ---------------------------------------------------------------- dicts and names
    @classmethod
    def of_backbone(cls, backbone: Mapping[str, Any]) -> 'Architecture':
        """The architecture of a ``TinyViT``, from its config.

        Raises :class:`UserError` if the config makes no sense, or it does not have four stages.
        """
        overrides = {name: backbone.get(name) for name in ('window_sizes', 'mlp_ratio', 'mbconv_expand_ratio')}
        arch = resolve_arch(backbone.get('arch', '5m'), overrides)
        heads = [dim // number for dim, number in zip(arch['embed_dims'], arch['num_heads'], strict=True)]
        return cls(arch['embed_dims'], arch['depths'], arch['window_sizes'][1:], float(arch['mbconv_expand_ratio']),
                   float(arch['mlp_ratio']), tuple(heads[1:]))

    @classmethod
    def parse(cls, name: str) -> 'Architecture':
        """The architecture of a short name. Raises :class:`UserError` if it is none."""
        found = _NAME.fullmatch(name)
        if not found:
            raise UserError(f'{name!r} is no architecture: write, for example, '
                            'd64-128-160-320_n2-2-6-2_w7-14-7_r4_m4_e32.')
        dims, depths, windows, heads = (tuple(map(int, found[i].split('-'))) for i in (1, 2, 3, 6))
        heads = heads * (STAGES - 1) if len(heads) == 1 else heads
        return cls(dims, depths, windows, float(found[4]), float(found[5]), heads)

    @cached_property
    def name(self) -> str:
        """Short and canonical: the same architecture has the same name, ``d64-128-160-320_n2-2-6-2_w7-14-7_r4_m4_e32``.
        """
        def joined(values: Sequence[int]) -> str:
            return '-'.join(map(str, values))

        heads = self.head_dims[:1] if len(set(self.head_dims)) == 1 else self.head_dims
        ratios = [repr(ratio).removesuffix('.0') for ratio in (self.expand_ratio, self.mlp_ratio)]  # to every digit
        return (f'd{joined(self.dims)}_n{joined(self.depths)}_w{joined(self.windows)}_r{ratios[0]}_m{ratios[1]}'
                f'_e{joined(heads)}')

    @property
    def arch(self) -> dict[str, Any]:
        """The dict that ``mmtinyvit.TinyViT`` takes as ``arch``. The first stage ignores its heads and its window."""
        first = self.dims[0] // self.head_dims[0] if self.dims[0] % self.head_dims[0] == 0 else 1
        heads = [dim // head for dim, head in zip(self.dims[1:], self.head_dims, strict=True)]
        return dict(embed_dims=self.dims, num_heads=(first, *heads), depths=self.depths,
                    window_sizes=(7, *self.windows), mlp_ratio=self.mlp_ratio,
                    mbconv_expand_ratio=self.expand_ratio)

    # ---------------------------------------------------------------- factors
    def __getitem__(self, factor: str) -> float:
        """The value of one of :data:`FACTORS`; of E that of the second stage."""
        kind, stage = factor[0], int(factor[1:] or 0)
        if kind in 'DN':
            return (self.dims if kind == 'D' else self.depths)[stage - 1]
        if kind == 'W':
            return self.windows[stage - 2]
        return dict(R=self.expand_ratio, M=self.mlp_ratio, E=self.head_dims[0])[kind]

    def moved(self, factors: Mapping[str, float]) -> 'Architecture | None':
        """The architecture with other values of some factors; None if its heads would not divide its channels."""
        fields = dict(dims=list(self.dims), depths=list(self.depths), windows=list(self.windows),
                      expand_ratio=self.expand_ratio, mlp_ratio=self.mlp_ratio, head_dims=list(self.head_dims))
        for factor, value in factors.items():
            kind, stage = factor[0], int(factor[1:] or 0)
            if kind == 'E':
                fields['head_dims'] = [int(value)] * (STAGES - 1)
            elif kind in 'RM':
                fields['expand_ratio' if kind == 'R' else 'mlp_ratio'] = float(value)
            else:
                name, first = dict(D=('dims', 1), N=('depths', 1), W=('windows', 2))[kind]
                fields[name][stage - first] = int(value)
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        if any(dim % head for dim, head in zip(fields['dims'][1:], fields['head_dims'], strict=True)):
            return None
        return replace(self, **fields)

    @property
    def is_valid(self) -> bool:
        """Whether each stage's channels are a multiple of its heads'."""
        return not any(dim % head for dim, head in zip(self.dims[1:], self.head_dims, strict=True))
