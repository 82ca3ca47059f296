"""The seven variants of Mobile-Former, by their cost in million MACs at 224 pixels."""
from typing import NamedTuple

__all__ = ['ARCHS', 'Arch', 'BlockSpec']


class BlockSpec(NamedTuple):
    """One line of the paper's tables.

    Attributes:
        kind: ``'lite'`` has no tokens, ``'down'`` halves the map, ``'mobile'`` keeps its size.
        expand: Hidden width over the width of the input.
        channels: Width of the output.
        stride: Of the lite block; it follows from the kind otherwise.
        second_expand: Of a down-sampling block: hidden width of its second half over the width of the output.
    """
    kind: str
    expand: int
    channels: int
    stride: int = 1
    second_expand: int = 0


class Arch(NamedTuple):
    """A variant: width of the stem, tokens, blocks, hidden width of the head, groups of the 1 x 1 convolutions."""
    stem: int
    token_dims: int
    num_tokens: int
    head_channels: int
    blocks: tuple[BlockSpec, ...]
    groups: int = 1


def _lite(expand: int, channels: int, stride: int = 1) -> BlockSpec:
    return BlockSpec('lite', expand, channels, stride)


def _down(channels: int) -> BlockSpec:
    return BlockSpec('down', 6, channels, 2, 4)


def _mobile(expand: int, channels: int) -> BlockSpec:
    return BlockSpec('mobile', expand, channels)


_BLOCKS_52M = (_lite(3, 12, 2), _mobile(3, 12), _down(24), _mobile(3, 24), _down(48), _mobile(4, 48), _mobile(6, 64),
               _down(96), _mobile(6, 96))

ARCHS = {
    '508m': Arch(24, 192, 6, 1920, (
        _lite(2, 24), _down(40), _mobile(3, 40), _down(72), _mobile(3, 72), _down(128), _mobile(4, 128),
        _mobile(6, 176), _mobile(6, 176), _down(240), _mobile(6, 240), _mobile(6, 240))),
    '294m': Arch(16, 192, 6, 1920, (
        _lite(2, 16), _down(24), _mobile(4, 24), _down(48), _mobile(4, 48), _down(96), _mobile(4, 96),
        _mobile(6, 128), _mobile(6, 128), _down(192), _mobile(6, 192), _mobile(6, 192))),
    '214m': Arch(12, 192, 6, 1600, (
        _lite(2, 12), _down(20), _mobile(3, 20), _down(40), _mobile(4, 40), _down(80), _mobile(4, 80),
        _mobile(6, 112), _mobile(6, 112), _down(160), _mobile(6, 160), _mobile(6, 160))),
    '151m': Arch(12, 192, 6, 1280, (
        _lite(2, 12), _down(16), _mobile(3, 16), _down(32), _mobile(3, 32), _down(64), _mobile(4, 64), _mobile(6, 88),
        _mobile(6, 88), _down(128), _mobile(6, 128), _mobile(6, 128))),
    '96m': Arch(12, 128, 4, 1280, (
        _lite(2, 12), _down(16), _down(32), _mobile(3, 32), _down(64), _mobile(4, 64), _mobile(6, 88), _down(128),
        _mobile(6, 128))),
    '52m': Arch(8, 128, 3, 1024, _BLOCKS_52M),
    '26m': Arch(8, 128, 3, 1024, _BLOCKS_52M, groups=4),
}
