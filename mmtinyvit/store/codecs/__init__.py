"""How one record is packed. A codec is chosen by name when a store is created."""
from functools import lru_cache

from .base import MAX_CLASSES, Codec, cut_lengths
from .compact import CompactCodec
from .exact import ExactCodec
from .reference import Reference
from .smallest import SmallestCodec

__all__ = ['MAX_CLASSES', 'Codec', 'Reference', 'codec_names', 'cut_lengths', 'make_codec']

_CODECS = {codec.name: codec for codec in (CompactCodec, ExactCodec, SmallestCodec)}


def codec_names() -> list[str]:
    """The names that ``codec=`` may take."""
    return sorted(_CODECS)


@lru_cache(maxsize=32)
def make_codec(name: str, topk: int, num_classes: int) -> Codec:
    """The codec called ``name`` for records of ``topk`` out of ``num_classes``; an unknown name is a ``KeyError``.

    Codecs do not change, so the same one is returned for the same arguments.
    """
    return _CODECS[name](topk, num_classes)
