"""The same records in shards of another size, and what a merge shares with that."""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError
from ..folders import is_url, refuse_url
from ..layout import TEXT_NAME, Unit
from ..reader import LogitStore
from ..writer import LogitWriter
from .verify import check_written, file_faults

__all__ = ['Reshard', 'Watch', 'open_sources', 'reshard_store', 'write_samples']

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
    store.manifest.reference.refuse_without(views, f'The new store {out}')
    manifest = replace(store.manifest, samples_per_shard=samples_per_shard)
    with LogitWriter(out, manifest, store.root / TEXT_NAME, exclusive=True) as writer:
        positions = np.arange(store.num_samples)
        num_written = write_samples(writer, views, [store], np.zeros_like(positions), positions, watch)
    written = LogitStore(out)
    shards = written.manifest.shards_per_view
    canaries = [len(written.canaries(view, shard)) for view in views for shard in range(shards)]
    return Reshard(views, shards, num_written, sum(canaries), canaries.count(0))


def _refuse_incomplete(store: LogitStore, views: Sequence[int]) -> None:
    coverage = store.coverage()
    for view in views:
        if view not in coverage or not coverage[view].complete:
            have = f'{coverage[view].present} of {coverage[view].expected}' if view in coverage else 'none'
            raise StoreError(f'View {view} of the store {store.root} is not complete (it has {have} of its shards): '
                             'save what is missing, or leave the view out with --views.')
    if not views:
        raise StoreError(f'The store {store.root} has no views yet: save some first.')


# ---------------------------------------------------------------- shared with a merge
def open_sources(sources: Sequence[str | Path], out: str | Path) -> list[LogitStore]:
    """Opens the stores that are to be read, whose keys are checked, and which ``out`` must not be part of.

    Raises:
        StoreError: One cannot be opened, its keys are damaged, or ``out`` is or lies in one of them.
    """
    refuse_url(out)
    place = Path(out).resolve()
    stores = []
    for source in sources:
        if is_url(source):
            raise StoreError(f'The store {source} is not on this machine: copy it here first, with '
                             f'"mmtinyvit store copy {source} FOLDER".')
        if Path(source).resolve() in (place, *place.parents):
            raise StoreError(f'The result {out} would lie in {source}, which is read: choose a new folder.')
        store = LogitStore(source)
        for fault in file_faults(store.root / TEXT_NAME, store.manifest.samples.text_sha256):
            raise StoreError(fault)
        stores.append(store)
    return stores


def write_samples(writer: LogitWriter, views: Sequence[int], stores: Sequence[LogitStore], owners: np.ndarray,
                  positions: np.ndarray, watch: Watch) -> int:
    """Writes what is missing of ``views`` with the records and canaries of other stores, and reads it all back.

    Args:
        writer: The new store, of ``n`` samples.
        views: The views to write.
        stores: Where the records come from.
        owners: ``(n,)``, which of ``stores`` has each sample.
        positions: ``(n,)``, its position there.
        watch: Wraps the units of work.

    Returns:
        The number of shards written.
    """
    missing = list(writer.missing(views))
    for unit in watch(missing):
        rows = np.arange(unit.first, unit.first + unit.count)
        records, canaries = np.empty((unit.count, writer.manifest.record_bytes), np.uint8), {}
        for number, store in enumerate(stores):
            new = rows[owners[rows] == number]
            old = positions[new]
            records[new - unit.first] = store.read_packed(unit.view, old)
            place = dict(zip(old.tolist(), new.tolist(), strict=True))
            for shard in np.unique(old // store.manifest.samples_per_shard).tolist():
                canaries |= {place[position]: digest for position, digest in store.canaries(unit.view, shard).items()
                             if position in place}
        writer.write_packed(unit, records, canaries)
    check_written(writer.root)
    return len(missing)
