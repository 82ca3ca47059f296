"""The smallest: entropy-coded classes and levels, of variable length, relative to a reference view."""
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .base import Codec
from .record_layout import RecordLayout
from .record_packer import RecordPacker
from .root_levels import RootLevels

if TYPE_CHECKING:
    from .record_unpacker import RecordUnpacker

__all__ = ['SmallestCodec']

_CHUNK = 6_400  # values packed at once: see compact.py


class SmallestCodec(Codec):
    """Rice-coded class gaps, entropy-coded square-root levels, and what a reference record has already said.

    Views of one image share most of their classes. So one view of a store, the reference view, is coded by itself, and
    a record of any other view says with one bit for each class of its reference record whether it has that class too,
    and lists only its others; or it is coded by itself as well, where that is shorter.

    An entry as probable as the classes of the tail are on average says nothing that the tail does not say. Such entries
    are not stored; they come back with the same probability under the first classes that are free, which is the same
    target.

    Probabilities are rounded as far as a divergence of 0.001 nat per record allows: see :class:`RootLevels`; the bits:
    see :class:`RecordLayout`.

    Source: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979; P. Elias, "Universal
    codeword sets and representations of the integers", IEEE Trans. Inf. Theory 21, 1975.
    """
    name = 'smallest'
    variable = True
    relative = True

    def __init__(self, topk: int, num_classes: int) -> None:
        super().__init__(topk, num_classes)
        roots = RootLevels(topk)
        self._layout, self._max_level = RecordLayout(topk, num_classes, roots), roots.max_level
        self.record_bytes = self._layout.record_bytes
        self._packer = RecordPacker(self._layout, roots, num_classes)
        self._rows = max(1, _CHUNK // topk)

    def encode(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
               reference: np.ndarray | None = None) -> np.ndarray:
        records = np.empty((len(index), self.record_bytes), np.uint8)
        for start in range(0, len(index), self._rows):
            rows = slice(start, start + self._rows)
            theirs = None if reference is None else self._unpacker.classes(reference[rows])
            records[rows] = self._packer.pack(index[rows], log_prob[rows], tail_mass[rows], theirs)
        return records

    def decode(self, records: np.ndarray,
               reference: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._unpacker.unpack(records, reference)

    @cached_property
    def _unpacker(self) -> 'RecordUnpacker':
        # brings in Numba, a second and 100 MB, which opening a store does not need
        from .record_unpacker import RecordUnpacker
        return RecordUnpacker(self._layout, self.num_classes, self._max_level)
