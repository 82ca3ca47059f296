"""The same records in shards of another size."""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import StoreError
from .layout import TEXT_NAME, Unit
from .reader import LogitStore
from .records import check_written, open_sources, read_canaries, read_records, write_records
from .writer import LogitWriter

__all__ = ['Reshard', 'reshard_store']

Watch = Callable[[Sequence[Unit]], Iterable[Unit]]


class Reshard(NamedTuple):
    """What was written.

    Attributes:
        views: The views of the new store.
        shards: Shards per view.
        written: Shards written in this call; the others were there.
        canaries: Canaries kept, over all views.
        without_canary: Shards that have none, over all views: the source's shards were larger than these, and each had
            few. Training replays the canaries of other shards.
    """
    views: list[int]
    shards: int
    written: int
    canaries: int
    without_canary: int


def reshard_store(source: str | Path, out: str | Path, samples_per_shard: int, views: Sequence[int] | None = None,
                  watch: Watch = iter) -> Reshard:
    """Writes the records of a store into a new one with other shards; records and canaries stay as they are.

    An interrupted call leaves a store of whole shards; the same call goes on with it. The source is only read.

    Args:
        source: A store's folder.
        out: The new store's folder.
        samples_per_shard: Samples per shard in the new store.
        views: The views to take; all by default.
        watch: Wraps the units of work, for a progress bar.

    Raises:
        StoreError: The source is damaged or lacks shards, ``out`` is another store, or the disk is full.
    """
    store, = open_sources([source], out)
    views = list(store.views if views is None else views)
    _refuse_incomplete(store, views)
    manifest = replace(store.manifest, samples_per_shard=samples_per_shard)
    with LogitWriter(out, manifest, store.root / TEXT_NAME, exclusive=True) as writer:
        missing = list(writer.missing(views))
        for unit in watch(missing):
            positions = np.arange(unit.first, unit.first + unit.count)
            write_records(writer, unit, read_records(store, unit.view, positions),
                          read_canaries(store, unit.view, positions))
        check_written(writer.root)
    written = LogitStore(out)
    shards = -(-store.num_samples // samples_per_shard)
    canaries = [len(written.canaries(view, shard)) for view in views for shard in range(shards)]
    return Reshard(views, shards, len(missing), sum(canaries), canaries.count(0))


def _refuse_incomplete(store: LogitStore, views: Sequence[int]) -> None:
    """Refuses views that are not completely there.

    Raises:
        StoreError: A view lacks shards, or there is none; it is named.
    """
    coverage = store.coverage()
    for view in views:
        if view not in coverage or coverage[view].present != coverage[view].expected:
            have = f'{coverage[view].present} of {coverage[view].expected}' if view in coverage else 'none'
            raise StoreError(f'View {view} of the store {store.root} is not complete (it has {have} of its shards): '
                             'save what is missing, or leave the view out with --views.')
    first = store.reference_view
    if views and first is not None and first not in views:
        raise StoreError(f'The other views of the store {store.root} are coded relative to view {first}: take it too.')
    if not views:
        raise StoreError(f'The store {store.root} has no views yet: save some first.')
