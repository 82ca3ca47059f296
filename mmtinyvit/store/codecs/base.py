"""What every codec promises, and how those that round it store the tail mass."""
from abc import ABC, abstractmethod

import numpy as np

from ..record import Record

__all__ = ['MAX_CLASSES', 'Codec', 'cut_lengths', 'encode_tail', 'tail_masses']

MAX_CLASSES = 65_536
# Values packed at once: enough to make NumPy's cost per call small, few enough to stay in the cache, and for malloc
# to keep the memory (were it mapped afresh each time, the page faults would cost more than the work).
_CHUNK = 12_800


class Codec(ABC):
    """Packs the top K of a distribution over C classes, and the mass of the others, into bytes.

    Every codec keeps these promises, which the tests hold it to:

    - the bytes of a record depend on that record alone, not on the batch that it was encoded in;
    - classes come back in ascending order, each with its own log-probability;
    - the top-1 class stays strictly the largest, also if the input had ties (then: the first one listed);
    - the decoded probabilities and the tail mass sum to one;
    - in the mean over records, the decoded target diverges from the encoded one by less than ``max_divergence``.

    Args:
        topk: K, from 1 to ``num_classes``.
        num_classes: C, at most 65,536.

    Attributes:
        name: How a manifest calls the codec.
        record_bytes: Bytes of each record, as it is packed and unpacked.
        max_divergence: That bound on the mean, the KL divergence in nats, tail included.
        variable: Whether records end in zero bytes that shards leave out (``layout`` 1 in the shard header).
        relative: Whether a record may be coded relative to that of the same sample in the store's reference view, see
            :class:`~mmtinyvit.store.codecs.Reference`. Then its bytes depend on both.
    """
    name: str
    record_bytes: int
    max_divergence: float
    variable = False
    relative = False

    def __init__(self, topk: int, num_classes: int) -> None:
        self.topk = topk
        self.num_classes = num_classes

    def prepare(self) -> None:
        """Does what the first decoding would wait for. Processes that are forked later share it."""
        self.decode(np.empty((0, self.record_bytes), np.uint8))

    def part(self, rows: np.ndarray, mixing: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Takes the partner's hash off packed records: behind a record of fixed width, before one of variable length.

        Args:
            rows: ``(n, record_bytes)`` uint8, with mixing 8 bytes more.
            mixing: Whether there is a hash.

        Returns:
            ``(n, record_bytes)`` uint8, and ``(n,)`` uint64 or None.
        """
        if not mixing:
            return rows, None
        partner, records = (rows[:, :8], rows[:, 8:]) if self.variable else (rows[:, -8:], rows[:, :-8])
        return records, np.ascontiguousarray(partner).view('<u8')[:, 0]

    def join(self, records: np.ndarray, partner_hash: np.ndarray | None) -> np.ndarray:
        """The inverse of :meth:`part`."""
        if partner_hash is None:
            return records
        partner = partner_hash.astype('<u8')[:, None].view(np.uint8)
        return np.concatenate([partner, records] if self.variable else [records, partner], axis=1)

    def bytes_per_view(self, first: Record, other: Record | None = None, views: int = 1) -> float:
        """Mean bytes of a record in a store, without checksums and lengths.

        Args:
            first: Some samples in one view.
            other: The same samples in another view.
            views: How many views the store has.
        """
        return self.record_bytes

    def encode(self, record: Record, reference: np.ndarray | None = None) -> np.ndarray:
        """Packs records that have passed :func:`~mmtinyvit.store.record.check_record`.

        Args:
            record: ``n`` rows of NumPy arrays, distinct classes in any order. It is packed without partners.
            reference: ``(n, record_bytes)`` uint8, the packed records of the same samples in the reference view; only
                if the codec is ``relative``, and not for the reference view itself.

        Returns:
            ``(n, record_bytes)`` uint8.
        """
        record = Record(record.index.astype(np.int64, copy=False), *record[1:3])
        packed = np.empty((len(record.index), self.record_bytes), np.uint8)
        size = max(1, _CHUNK // self.topk)
        for start in range(0, len(packed), size):
            rows = slice(start, start + size)
            packed[rows] = self._encode(record.row(rows), None if reference is None else reference[rows])
        return packed

    @abstractmethod
    def _encode(self, record: Record, reference: np.ndarray | None) -> np.ndarray:
        """As :meth:`encode`, for a few rows, whose index is int64."""

    @abstractmethod
    def decode(self, packed: np.ndarray, reference: np.ndarray | None = None) -> Record:
        """Unpacks records whose checksums were right.

        Args:
            packed: ``(n, record_bytes)`` uint8.
            reference: As in :meth:`encode`.

        Returns:
            ``n`` rows of int64, float32 and float32, classes ascending, without partners.

        Raises:
            ValueError: The bytes are not what :meth:`encode` writes.
        """


def cut_lengths(records: np.ndarray) -> np.ndarray:
    """``(n,)`` int64: the bytes of records ``(n, record_bytes)`` without the zeros at their ends."""
    used = records != 0
    return np.where(used.any(axis=1), records.shape[1] - used[:, ::-1].argmax(axis=1), 0)


# ---------------------------------------------------------------- the tail mass as a whole number
# Even steps on a square-root scale from both ends: there an error of the mass costs the same divergence everywhere.
def encode_tail(tail_mass: np.ndarray, bits: int) -> np.ndarray:
    """``(n,)`` int64: the number that stands for each mass.

    Zero stays zero; any other tail gets at least the first step and at most the last but one, so that neither side of
    the split ever becomes impossible.

    Args:
        tail_mass: ``(n,)`` float, in ``[0, 1]``.
        bits: Of each number.
    """
    tail, last = tail_mass.astype(np.float64), 2**bits - 1
    scale = np.where(tail <= 0.5, np.sqrt(tail / 2), 1 - np.sqrt((1 - tail) / 2))
    code = np.clip(np.rint(scale * last), 1, last - 1)
    return np.where(tail > 0, code, 0).astype(np.int64)


def tail_masses(bits: int) -> np.ndarray:
    """``(2**bits,)`` float64: the mass that each number stands for."""
    scale = np.arange(2**bits) / (2**bits - 1)
    return np.where(scale <= 0.5, 2 * scale**2, 1 - 2 * (1 - scale)**2)
