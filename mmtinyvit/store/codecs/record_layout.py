"""Where things are in a record of the codec ``smallest``."""
import numpy as np

from .gap_code import GAP_BITS
from .level_code import CODE_BITS, RICE_CODES
from .root_levels import STEP_BITS, TAIL_BITS, RootLevels

__all__ = ['FLOOR_BITS', 'RecordLayout']

FLOOR_BITS = 4


class RecordLayout:
    """The parts of a record, lowest bit first in each byte, without gaps.

    A head of seven fields, in the order of ``fields``; if the record is relative, K bits that say which classes of the
    reference it has; the low bits of the gaps of its other classes; in unary, the rest of these gaps and then the first
    part of each level; the second parts of the levels.

    Args:
        topk: K.
        num_classes: C.

    Attributes:
        fields: Name and width of the head's fields.
        head_bits: Their sum.
        record_bytes: No record is longer.
    """

    def __init__(self, topk: int, num_classes: int, roots: RootLevels) -> None:
        self.topk = topk
        self.fields = dict(relative=1, step=STEP_BITS, code=CODE_BITS, gap_bits=GAP_BITS, floor=FLOOR_BITS,
                           tail=TAIL_BITS, count=(topk - 1).bit_length())
        widths = np.array(list(self.fields.values()))
        self._starts = widths.cumsum() - widths
        self.head_bits = int(widths.sum())
        gaps = min(topk * (bits + 1) + (num_classes >> bits) for bits in range(2**GAP_BITS))
        levels = min(topk * (bits + 1) + (roots.max_sum >> bits) for bits in range(RICE_CODES))
        self.record_bytes = -(-(self.head_bits + gaps + levels) // 8)

    def head_of(self, **fields: np.ndarray) -> np.ndarray:
        """``(n, head_bits)`` uint8: the bits of the head; ``count`` is stored less one."""
        fields['count'] = fields['count'] - 1
        word = sum(fields[name].astype(np.int64) << start
                   for name, start in zip(self.fields, self._starts.tolist(), strict=True))
        return (word[:, None] >> np.arange(self.head_bits) & 1).astype(np.uint8)
