"""Several stores put together: views of the same samples, or samples of the same views."""
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import StoreError
from ..files import open_file, reading
from ..keys import text_sha256
from ..layout import TEXT_NAME, Unit
from ..manifest import Manifest, diff_fingerprints
from ..reader import LogitStore
from ..writer import LogitWriter
from .reshard import Watch, open_sources, write_samples
from .verify import check_written

__all__ = ['Merge', 'merge_stores']

_BLOCK = 65_536


@dataclass
class Merge:
    """What was written.

    Attributes:
        kind: ``'views'`` if the stores have the same samples, ``'samples'`` if they have different ones.
        num_samples: Samples of the new store.
        views: Its views.
        left_out: Views that not every store has completely; only when samples are merged.
        overlaps: Shards, or records, that more than one store has, with the same bytes.
        written: Shards written in this call; the others were there.
        versions: Library versions that differ, as ``'numpy: 1 != 2'``; those of the first store are kept.
    """
    kind: str
    num_samples: int
    views: list[int]
    left_out: list[int]
    overlaps: int
    written: int
    versions: list[str]


def merge_stores(sources: Sequence[str | Path], out: str | Path, watch: Watch = iter) -> Merge:
    """Puts stores together into a new one; record bytes and canaries stay as they are.

    Stores of the same identity give their views; a view may be spread over several, shard by shard. Stores that differ
    in nothing but their samples give their samples, in the order of ``sources``, for the views that all have
    completely. What more than one store has must be the same to the byte. All of this is checked before anything is
    written, an interrupted call is simply repeated, and the sources are only read.

    Args:
        sources: Two or more stores.
        out: The new store's folder.
        watch: Wraps the units of work, for a progress bar.

    Raises:
        StoreError: The stores do not belong together, or say different things about the same sample and view (named);
            one is damaged; ``out`` is another store; or the disk is full.
    """
    if len(sources) < 2:
        raise StoreError('Merging needs two stores or more.')
    stores = open_sources(sources, out)
    first = stores[0].manifest
    versions = [line for store in stores[1:]
                for line in diff_fingerprints(first.fingerprints.get('versions', {}),
                                              store.manifest.fingerprints.get('versions', {}))]
    if all(store.manifest.store_id == first.store_id for store in stores):
        merge = _merge_views(stores, Path(out), watch)
    else:
        _refuse_strangers(stores)
        merge = _merge_samples(stores, Path(out), watch)
    merge.versions = versions
    return merge


# ---------------------------------------------------------------- the same samples
def _merge_views(stores: list[LogitStore], out: Path, watch: Watch) -> Merge:
    manifest, files = stores[0].manifest, {}
    for store in stores:
        for unit in manifest.units(store.shards()):
            files.setdefault(unit, []).append(store.root / unit.file)
    ordered = manifest.reference.in_order(files)
    for unit, (source, *others) in files.items():
        for other in others:
            _refuse_difference(unit, source, other)
    with LogitWriter(out, manifest, stores[0].root / TEXT_NAME, exclusive=True) as writer:
        missing = []
        for unit in ordered:
            written = out / unit.file
            if written.exists():
                _refuse_difference(unit, files[unit][0], written)
            else:
                missing.append(unit)
        for unit in watch(missing):
            writer.write_file(unit, files[unit][0])
        check_written(writer.root)
    overlaps = sum(len(paths) - 1 for paths in files.values())
    return Merge('views', manifest.num_samples, sorted({unit.view for unit in files}), [], overlaps, len(missing), [])


def _refuse_difference(unit: Unit, one: Path, other: Path) -> None:
    with reading(one.parents[1]), open_file(one) as first, open_file(other) as second:
        same = first.read() == second.read()
    if not same:
        raise StoreError(f'{one.parents[1]} and {other.parents[1]} say different things in view {unit.view}, shard '
                         f'{unit.shard}: verify both, and take the wrong one out.')


# ---------------------------------------------------------------- the same views
def _comparable(manifest: Manifest) -> dict[str, Any]:
    """The identity without what depends on which samples there are."""
    content = manifest.comparable()
    for name in ('num_samples', 'samples_per_shard', 'samples_text_sha256'):
        del content[name]
    dataset = content['fingerprints'].get('dataset')
    if isinstance(dataset, dict):
        content['fingerprints']['dataset'] = {name: value for name, value in dataset.items()
                                              if name not in ('num_samples', 'order_hash')}
    return content


def _refuse_strangers(stores: list[LogitStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        lines = diff_fingerprints(_comparable(first.manifest), _comparable(store.manifest))
        if lines:
            raise StoreError(f'The stores {first.root} and {store.root} cannot be merged, since they hold different '
                             f'things: {"; ".join(lines)}.')
        if (first.manifest.samples.text_sha256 == store.manifest.samples.text_sha256
                and first.manifest.samples_per_shard != store.manifest.samples_per_shard):
            raise StoreError(f'The stores {first.root} and {store.root} have the same samples in shards of '
                             f'{first.manifest.samples_per_shard} and {store.manifest.samples_per_shard}: reshard one '
                             'like the other first.')
    if first.mixing:
        raise StoreError(f'The stores {first.root} and {stores[1].root} have different samples, and pairs were mixed '
                         'within each: save a new store of all samples instead.')


def _merge_samples(stores: list[LogitStore], out: Path, watch: Watch) -> Merge:
    complete = [set(store.complete_views()) for store in stores]
    views = sorted(set.intersection(*complete))
    if not views:
        have = '; '.join(f'{store.root} has {sorted(present)}' for store, present in zip(stores, complete, strict=True))
        raise StoreError(f'The stores have different samples and no complete view in common ({have}): save the same '
                         'views of each.')
    stores[0].manifest.reference.refuse_without(views, f'The new store {out}')
    left_out = sorted({view for store in stores for view in store.views} - set(views))
    with tempfile.NamedTemporaryFile('w', encoding='utf-8') as text:  # 14 million names do not belong in memory
        owners, positions, overlaps = _unite(stores, views, text)
        text.flush()
        writer = LogitWriter(out, _united_manifest(stores[0].manifest, Path(text.name)), Path(text.name),
                             exclusive=True)
    with writer:
        num_written = write_samples(writer, views, stores, owners, positions, watch)
    return Merge('samples', len(owners), views, left_out, overlaps, num_written, [])


def _united_manifest(first: Manifest, keys: Path) -> Manifest:
    """The first store's manifest, for other samples; the hash of their order is that of their text."""
    prints = dict(first.fingerprints)
    if isinstance(prints.get('dataset'), dict):
        order, count = text_sha256(keys)
        changed = dict(num_samples=count, order_hash=order)
        prints['dataset'] = {name: changed.get(name, value) for name, value in prints['dataset'].items()}
    return replace(first, fingerprints=prints, num_samples=None, samples=None)


def _unite(stores: list[LogitStore], views: list[int], text: TextIO) -> tuple[np.ndarray, np.ndarray, int]:
    """Which store has each sample of the result, ``(n,)``; its position there, ``(n,)``; and the records found twice.

    Later stores add what earlier ones lack; what both have must be the same in all ``views``. The keys go to ``text``.
    """
    owners, positions, overlaps = [], [], 0
    for number, store in enumerate(stores):
        for start in range(0, store.num_samples, _BLOCK):
            block = np.arange(start, min(start + _BLOCK, store.num_samples))
            names = [store.key(position) for position in block.tolist()]
            new = np.ones(len(block), bool)
            for earlier in stores[:number]:
                known = earlier.find(names)
                twice = known >= 0
                for view in views if twice.any() else ():
                    same = (earlier.read_packed(view, known[twice])
                            == store.read_packed(view, block[twice])).all(axis=1)
                    if not same.all():
                        key = names[np.flatnonzero(twice)[int(same.argmin())]]
                        raise StoreError(f'{earlier.root} and {store.root} say different things about {key!r} in view '
                                         f'{view}: take it out of one of them.')
                    overlaps += len(same)
                new &= ~twice
            owners.append(np.full(int(new.sum()), number, np.int32))
            positions.append(block[new])
            text.writelines(f'{name}\n' for name, is_new in zip(names, new.tolist(), strict=True) if is_new)
    return np.concatenate(owners), np.concatenate(positions), overlaps
