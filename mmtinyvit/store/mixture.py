"""Several teachers as one: the weighted mean of their targets, as an ordinary record."""
from collections.abc import Sequence

import numpy as np

from .errors import StoreError
from .logits import TeacherLogits

__all__ = ['check_weights', 'mix_logits']


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


def mix_logits(records: Sequence[TeacherLogits], weights: Sequence[float], num_classes: int) -> TeacherLogits:
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
    for other in records[1:]:
        if (partner is None) != (other.partner_hash is None) or (partner is not None
                                                                 and (partner != other.partner_hash).any()):
            raise StoreError('The stores hold views that were mixed with different partners: combine stores of the '
                             'same dataset, base_seed and mixing.')
    slots = min(sum(record.index.shape[1] for record in records), num_classes)
    count = len(records[0].index)
    index = np.empty((count, slots), np.int64)
    prob = np.empty((count, slots), np.float64)
    shares = [record.tail_mass.astype(np.float64) / max(num_classes - record.index.shape[1], 1) for record in records]
    share = sum(weight * each for weight, each in zip(weights, shares, strict=True))  # (n,)
    for row in range(count):
        listed = np.unique(np.concatenate([record.index[row] for record in records]))
        if len(listed) < slots:  # the first that nobody lists; among the first `slots` classes there are enough
            spare = np.setdiff1d(np.arange(slots), listed, assume_unique=True)[:slots - len(listed)]
            listed = np.sort(np.concatenate([listed, spare]))
        index[row] = listed
        mean = np.zeros(slots)
        for record, weight, each in zip(records, weights, shares, strict=True):
            said = np.full(slots, each[row])
            said[np.searchsorted(listed, record.index[row])] = np.exp(record.log_prob[row].astype(np.float64))
            mean += weight * said
        prob[row] = mean
    with np.errstate(divide='ignore'):  # a class that every teacher rules out
        log_prob = np.log(prob).astype(np.float32)
    return TeacherLogits(index, log_prob, (share * (num_classes - slots)).astype(np.float32), partner)
