"""Record: what a teacher says about a batch of views, from the teacher through the store to the loss."""
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np

from .errors import StoreError

if TYPE_CHECKING:
    import torch

__all__ = ['Record', 'check_record', 'check_weights', 'mix_logits']

_LOG_EPS = 1e-4  # how far rounding may lift a log-probability above 0
_SUM_EPS = 1e-3  # how far probabilities and tail may miss 1

Array = Union[np.ndarray, 'torch.Tensor']


class Record(NamedTuple):
    """What a teacher says about ``n`` samples in one view: the top K classes, and the mass of all others.

    A teacher that is asked and a store that is read give NumPy arrays; a sample carries one row of them. :meth:`to`
    turns a batch of rows into tensors on the student's device, which is what the losses take. Nothing else in this
    package needs torch.

    Attributes:
        index: ``(n, K)`` whole numbers, the classes. From a store: int64, ascending.
        log_prob: ``(n, K)`` float32, natural logarithms. From a store: the largest of a row is unique.
        tail_mass: ``(n,)`` float32, the probability of all other classes together.
        partner_hash: ``(n,)`` uint64, the key hash of the sample that each was mixed with; None without mixing.
    """
    index: Array
    log_prob: Array
    tail_mass: Array
    partner_hash: Array | None = None

    def row(self, i: int | slice | Array) -> 'Record':
        """What it says about sample ``i``: ``(K,)``, ``(K,)`` and numbers; or about several, as a record of these."""
        return Record(*(None if part is None else part[i] for part in self))

    def top(self, topk: int) -> 'Record':
        """The ``topk`` most probable classes of each row, of NumPy arrays; what is left out joins the tail.

        Classes stay in their order. Of equally probable ones, those that stand first are kept.
        """
        order = np.argsort(-self.log_prob, axis=1, kind='stable')
        kept, left = np.sort(order[:, :topk], axis=1), order[:, topk:]
        lost = np.exp(np.take_along_axis(self.log_prob, left, 1), dtype=np.float64).sum(1)
        return self._replace(index=np.take_along_axis(self.index, kept, 1),
                             log_prob=np.take_along_axis(self.log_prob, kept, 1),
                             tail_mass=(self.tail_mass + lost).astype(np.float32))

    @staticmethod
    def concat(records: Sequence['Record']) -> 'Record':
        """The rows of several records of NumPy arrays, one after the other; all have partners, or none has."""
        return Record(*(None if parts[0] is None else np.concatenate(parts) for parts in zip(*records, strict=True)))

    @staticmethod
    def stack(rows: Sequence['Record']) -> 'Record':
        """The inverse of :meth:`row`."""
        return Record(*(None if parts[0] is None else np.stack(parts) for parts in zip(*rows, strict=True)))

    def to(self, device: 'torch.device | str') -> 'Record':
        """Index (int64), log-probabilities and tail masses as tensors on ``device``; partners stay behind.

        Args:
            device: Where the student's logits are.
        """
        import torch
        index, *values = (torch.as_tensor(part) for part in self[:3])
        return Record(*(part.to(device, non_blocking=True) for part in (index.long(), *values)))


def check_record(record: Record, count: int, topk: int, num_classes: int, name: Callable[[int], str]) -> Record:
    """Refuses what no softmax gives, before it is written.

    Args:
        record: NumPy arrays of any integer and float type.
        count: The expected n.
        topk: The expected K.
        num_classes: C.
        name: Words for row ``i`` in errors, such as ``"sample 'n01440764/1.JPEG' in view 3"``.

    Returns:
        The record with index, log-probabilities and tail masses as int64, float32 and float32, log-probabilities and
        tail clipped into their range; without other classes the tail is 0.

    Raises:
        StoreError: A shape or type is wrong; or a value is, and then the first bad sample is named.
    """
    index, log_prob, tail_mass = (np.asarray(part) for part in record[:3])
    for what, array, shape, kinds in (('index', index, (count, topk), 'iu'),
                                      ('log_prob', log_prob, (count, topk), 'f'),
                                      ('tail_mass', tail_mass, (count,), 'f')):
        if array.shape != shape or array.dtype.kind not in kinds:
            kind = 'whole numbers' if kinds == 'iu' else 'floats'
            raise StoreError(f'{what} must hold {kind} of shape {shape}, not {array.dtype} of shape {array.shape}.')
    index = index.astype(np.int64, copy=False)
    log_prob, tail_mass = log_prob.astype(np.float32, copy=False), tail_mass.astype(np.float32, copy=False)

    def refuse(bad: np.ndarray, fault: str) -> None:
        if bad.any():
            raise StoreError(f'The teacher gave {name(int(bad.argmax()))} {fault}.')

    refuse(~(np.isfinite(log_prob).all(axis=1) & np.isfinite(tail_mass)),
           'a log-probability or tail mass that is NaN or infinite: check the checkpoint, and save without --amp')
    refuse((log_prob > _LOG_EPS).any(axis=1), 'a log-probability above 0: pass log_softmax of the logits')
    refuse((tail_mass < -_SUM_EPS) | (tail_mass > 1 + _SUM_EPS), 'a tail mass outside 0 to 1')
    refuse(((index < 0) | (index >= num_classes)).any(axis=1),
           f'a class outside 0 to {num_classes - 1}: the teacher and the store differ in num_classes')
    ordered = np.sort(index, axis=1)
    refuse((ordered[:, 1:] == ordered[:, :-1]).any(axis=1), 'the same class twice')
    total = np.exp(log_prob).sum(axis=1, dtype=np.float64) + tail_mass
    refuse(np.abs(total - 1) > _SUM_EPS, 'probabilities and a tail mass that do not sum to 1')
    tail_mass = np.clip(tail_mass, 0, 1) if topk < num_classes else np.zeros_like(tail_mass)
    return Record(index, np.minimum(log_prob, 0), tail_mass, record.partner_hash)


def check_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """The weights of ``count`` teachers, scaled to sum to 1; None weighs all alike.

    Raises:
        StoreError: Their number is not ``count``, or one is not a positive number.
    """
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise StoreError(f'There are {len(weights)} weights for {count} teachers: give one for each.')
    values = np.asarray(weights, np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise StoreError(f'The weights {list(weights)} of the teachers must be positive numbers: leave out a teacher '
                         'that is to have none.')
    return (values / values.sum()).tolist()


def mix_logits(records: Sequence[Record], weights: Sequence[float], num_classes: int) -> Record:
    """The weighted mean of what several teachers say about the same ``n`` samples, without loss.

    What a record recovers to is p_k on its K classes and m = tail / (C - K) on each other. The mean of such targets is
    again one: exact on every class that any teacher lists, sum of w m on the rest. So that all samples have as many
    slots, ``min(sum of K, C)``, samples whose teachers list common classes get further classes with just that share.

    Args:
        records: One per teacher, of the same samples; their K may differ.
        weights: One per teacher, positive, with the sum 1.
        num_classes: C, the same for all.

    Returns:
        A record as a store gives it: distinct classes, ascending.

    Raises:
        StoreError: The teachers saw a sample mixed with different partners.
    """
    partner = records[0].partner_hash
    if not all(np.array_equal(partner, other.partner_hash) for other in records[1:]):
        raise StoreError('The stores hold views that were mixed with different partners: combine stores of the same '
                         'dataset, base_seed and mixing.')
    slots = min(sum(record.index.shape[1] for record in records), num_classes)
    count = len(records[0].index)
    index = np.empty((count, slots), np.int64)
    prob = np.empty((count, slots), np.float64)
    shares = [record.tail_mass.astype(np.float64) / max(num_classes - record.index.shape[1], 1) for record in records]
    mean_share = sum(weight * share for weight, share in zip(weights, shares, strict=True))  # (n,)
    for row in range(count):
        listed = np.unique(np.concatenate([record.index[row] for record in records]))
        if len(listed) < slots:  # the first that nobody lists; among the first `slots` classes there are enough
            spare = np.setdiff1d(np.arange(slots), listed, assume_unique=True)[:slots - len(listed)]
            listed = np.sort(np.concatenate([listed, spare]))
        index[row] = listed
        mean = np.zeros(slots)
        for record, weight, share in zip(records, weights, shares, strict=True):
            said = np.full(slots, share[row])
            said[np.searchsorted(listed, record.index[row])] = np.exp(record.log_prob[row].astype(np.float64))
            mean += weight * said
        prob[row] = mean
    with np.errstate(divide='ignore'):  # a class that every teacher rules out
        log_prob = np.log(prob).astype(np.float32)
    return Record(index, log_prob, (mean_share * (num_classes - slots)).astype(np.float32), partner)
