"""Which samples have a label that the stored teacher finds plausible."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

from .store_stats import sample_positions, teacher_labels
from .store_tally import label_probability

__all__ = ['RULES', 'LabelSupport', 'check_rule', 'keep_samples', 'measure_support']

RULES = ('any', 'most', 'all')
_BATCH = 4096


class LabelSupport(NamedTuple):
    """How plausible a teacher finds each label of a dataset.

    Attributes:
        labels: ``(N,)`` int64, in the teacher's classes.
        positions: ``(N,)`` int64, where the samples stand in the store.
        found: ``(N,)`` float64, in which share of the views the label is among the teacher's top k.
        prob: ``(N,)`` float64, the label's mean probability over the views.
    """
    labels: np.ndarray
    positions: np.ndarray
    found: np.ndarray
    prob: np.ndarray


def measure_support(store: LogitStore, dataset: Any, views: Sequence[int], top: int = 5,
                    label_index: Sequence[int] | Mapping[str, str] | None = None,
                    watch: Callable[[Sequence[int]], Iterable[int]] = iter,
                    classes: Sequence[str] | None = None) -> LabelSupport:
    """Look for each label among the teacher's ``top`` most probable classes, in each of the views.

    Args:
        store, dataset, views, label_index, watch, classes: As for
            :func:`~mmtinyvit.apis.store_stats.measure_store`.
        top: k, at most the K of the store.

    Raises:
        UserError: ``top`` is more than the store has; or as :func:`~mmtinyvit.apis.store_stats.teacher_labels`.
    """
    store.require_classes(top)
    indices = np.arange(len(dataset))
    labels = teacher_labels(dataset, indices, store, label_index, classes)
    positions = sample_positions(dataset, indices, store)
    found, prob = np.zeros(len(indices)), np.zeros(len(indices))
    for view in watch(views):
        for start in range(0, len(indices), _BATCH):
            rows = slice(start, start + _BATCH)
            whole = store.read_positions(view, positions[rows])
            label = labels[rows, None]
            found[rows] += (whole.top(top).index == label).any(1)
            prob[rows] += label_probability(whole, labels[rows], store.num_classes)
    return LabelSupport(labels, positions, found / len(views), prob / len(views))


def check_rule(rule: str = 'most', share: float | None = None) -> None:
    """Raise :class:`UserError` unless :func:`keep_samples` knows what to keep."""
    if rule not in RULES:
        raise UserError(f'rule={rule!r} must be one of {", ".join(RULES)}.')
    if share is not None and not 0 < share <= 1:
        raise UserError(f'share={share} of the samples to keep must be more than 0 and at most 1: 0.86 keeps 86 %.')


def keep_samples(support: LabelSupport, rule: str = 'most', share: float | None = None) -> np.ndarray:
    """``(N,)`` bool: which samples to keep.

    Args:
        support: See :func:`measure_support`.
        rule: Keep a sample whose label is among the top k in ``'any'`` view, in at least half of them (``'most'``), or
            in ``'all'``.
        share: Instead, keep this share of the samples: those with the label among the top k in the most views, and of
            equal ones those whose label is most probable.

    Raises:
        UserError: ``rule`` or ``share`` makes no sense.
    """
    check_rule(rule, share)
    if share is None:
        return support.found >= dict(any=1e-9, most=0.5, all=1.)[rule]
    order = np.lexsort((-support.prob, -support.found))
    kept = np.zeros(len(order), bool)
    kept[order[:max(1, round(share * len(order)))]] = True
    return kept
