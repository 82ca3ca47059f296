"""ShardBuffer: the records of one shard while the teacher works on it."""
import numpy as np

from mmtinyvit.store import Unit
from mmtinyvit.store.layout import is_canary

__all__ = ['ShardBuffer']


class ShardBuffer:
    """Collects batches until a shard is whole.

    Args:
        unit: The shard.
        topk: K.
        mixing: Whether records name their partners.
    """

    def __init__(self, unit: Unit, topk: int, mixing: bool) -> None:
        self.unit = unit
        self.filled = 0
        self.index = np.empty((unit.count, topk), np.int32)
        self.log_prob = np.empty((unit.count, topk), np.float32)
        self.tail_mass = np.empty(unit.count, np.float32)
        self.partner_hash = np.empty(unit.count, np.uint64) if mixing else None
        self.canaries: dict[int, bytes] = {}

    def add(self, positions: np.ndarray, index: np.ndarray, log_prob: np.ndarray, tail_mass: np.ndarray,
            partner_hash: np.ndarray | None, canaries: dict[int, bytes]) -> None:
        """Take in one batch; ``positions`` are those in the store, consecutive."""
        first = int(positions[0]) - self.unit.first
        rows = slice(first, first + len(positions))
        self.index[rows], self.log_prob[rows], self.tail_mass[rows] = index, log_prob, tail_mass
        if self.partner_hash is not None:
            self.partner_hash[rows] = partner_hash
        self.canaries.update(canaries)
        self.filled += len(positions)

    @property
    def full(self) -> bool:
        """Whether all samples of the shard are there."""
        return self.filled == self.unit.count

    def arrays(self) -> tuple:
        """Index, log-probabilities, tail masses and partner hashes, in the order of ``write_shard``."""
        return self.index, self.log_prob, self.tail_mass, self.partner_hash

    def is_canary(self, position: int) -> bool:
        """Whether the pixels of this sample are hashed: the shard's first, and every 4096th after it."""
        return is_canary(position - self.unit.first, self.unit.count)
