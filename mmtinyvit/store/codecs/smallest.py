"""The smallest: entropy-coded classes and levels, of variable length, relative to a reference view."""
import numpy as np

from .base import Codec
from .record_layout import RecordLayout
from .record_packer import RecordPacker
from .record_unpacker import RecordUnpacker
from .root_levels import RootLevels

__all__ = ['SmallestCodec']

_CHUNK = 6_400  # values packed or unpacked at once: see compact.py; lists of set bits are longer than those of values


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
        layout = RecordLayout(topk, num_classes, roots)
        self.record_bytes = layout.record_bytes
        self._packer = RecordPacker(layout, roots, num_classes)
        self._unpacker = RecordUnpacker(layout, num_classes, roots.max_level)
        self._rows = max(1, _CHUNK // topk)

    def encode(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
               reference: np.ndarray | None = None) -> np.ndarray:
        records = np.empty((len(index), self.record_bytes), np.uint8)
        reference = None if reference is None else np.ascontiguousarray(reference)
        for start in range(0, len(index), self._rows):
            rows = slice(start, start + self._rows)
            theirs = None if reference is None else self._unpacker.classes(reference[rows])[0]
            records[rows] = self._packer.pack(index[rows], log_prob[rows], tail_mass[rows], theirs)
        return records

    def decode(self, records: np.ndarray,
               reference: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num = len(records)
        records = np.ascontiguousarray(records)
        reference = None if reference is None else np.ascontiguousarray(reference)
        index, log_prob = np.empty((num, self.topk), np.int64), np.empty((num, self.topk), np.float32)
        tail_mass = np.empty(num, np.float32)
        for start in range(0, num, self._rows):
            rows = slice(start, start + self._rows)
            theirs = None if reference is None else reference[rows]
            index[rows], log_prob[rows], tail_mass[rows] = self._unpacker.unpack(records[rows], theirs)
        return index, log_prob, tail_mass
