"""Which samples of a store are looked at where all would be too many."""
from typing import Any, NamedTuple

import numpy as np

from mmtinyvit.store import LogitStore
from mmtinyvit.store.folders import is_url

from .store_stats import sample_positions

__all__ = ['StoreSamples', 'choose_samples', 'spread']

REMOTE_SHARDS = 16  # of each view, at most: a shard at a URL is fetched whole


class StoreSamples(NamedTuple):
    """Samples of a store.

    Attributes:
        positions: ``(n,)`` int64, where they stand in the store.
        indices: ``(n,)`` int64, ascending, where they stand in a dataset; None without one.
        total: Of how many they were chosen.
    """
    positions: np.ndarray
    indices: np.ndarray | None
    total: int


def choose_samples(store: LogitStore, count: int, dataset: Any = None) -> StoreSamples:
    """At most ``count`` samples of a store, or of a dataset that is in it, spread evenly.

    Of a store at a URL they are those of at most 16 shards, which are spread evenly, since a shard is fetched whole.

    Args:
        store: The store.
        count: How many.
        dataset: A dataset whose samples are in the store, as :func:`~mmtinyvit.engine.store_check.check_dataset` makes
            sure.
    """
    total = store.num_samples if dataset is None else len(dataset)
    chosen = np.arange(total)
    if is_url(store.root) and count < total:
        positions = chosen if dataset is None else sample_positions(dataset, chosen, store)
        shards = positions // store.manifest.samples_per_shard
        chosen = np.flatnonzero(np.isin(shards, spread(np.unique(shards), REMOTE_SHARDS)))
    chosen = spread(chosen, count)
    if dataset is None:
        return StoreSamples(chosen, None, total)
    return StoreSamples(sample_positions(dataset, chosen, store), chosen, total)


def spread(values: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the ``values``, from the first to the last at equal distances."""
    if count >= len(values):
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, count).round().astype(np.int64))]
