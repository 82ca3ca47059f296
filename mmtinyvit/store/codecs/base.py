"""What every codec promises."""
from abc import ABC, abstractmethod

import numpy as np

__all__ = ['MAX_CLASSES', 'Codec']

MAX_CLASSES = 65_536


class Codec(ABC):
    """Packs the top K of a distribution over C classes, and the mass of the others, into bytes.

    Every codec keeps these promises, which the tests hold it to:

    - the bytes of a record depend on that record alone, not on the batch that it was encoded in;
    - classes come back in ascending order, each with its own log-probability;
    - the top-1 class stays strictly the largest, also if the input had ties (then: the first one listed);
    - the decoded probabilities and the tail mass sum to one.

    Args:
        topk: K, from 1 to ``num_classes``.
        num_classes: C, at most 65,536.

    Attributes:
        name: How a manifest calls the codec.
        record_bytes: Bytes of each record. ``None`` is reserved for codecs of variable length, whose shards need a
            table of offsets (``layout`` 1 in the shard header).
    """
    name: str
    record_bytes: int | None

    def __init__(self, topk: int, num_classes: int) -> None:
        self.topk = topk
        self.num_classes = num_classes

    @abstractmethod
    def encode(self, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray) -> np.ndarray:
        """Packs records that have passed :func:`~mmtinyvit.store.logits.check_logits`.

        Args:
            index: ``(n, K)`` int64, distinct classes in any order.
            log_prob: ``(n, K)`` float32.
            tail_mass: ``(n,)`` float32.

        Returns:
            ``(n, record_bytes)`` uint8.
        """

    @abstractmethod
    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unpacks records whose checksums were right.

        Args:
            records: ``(n, record_bytes)`` uint8.

        Returns:
            ``(n, K)`` int64, ``(n, K)`` float32 and ``(n,)`` float32 as in :meth:`encode`, classes ascending.

        Raises:
            ValueError: The bytes are not what :meth:`encode` writes.
        """
