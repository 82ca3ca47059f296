"""What a store holds, and what it says about one sample, as plain JSON."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..manifest import Manifest
from ..reader import LogitStore

__all__ = ['NO_REPLAY', 'describe_sample', 'describe_store', 'is_replayable', 'read_class_names']

NO_REPLAY = 'none'  # fingerprints.pipeline.replay of a store whose views nobody can make again


def is_replayable(manifest: Manifest) -> bool:
    """Whether the views of a store can be made again; not so if another program augmented them."""
    pipeline = manifest.fingerprints.get('pipeline')
    return not (isinstance(pipeline, dict) and pipeline.get('replay') == NO_REPLAY)


def describe_store(path: str | Path) -> dict[str, Any]:
    """A store in one piece of JSON; no record is read.

    Args:
        path: The store's folder, or its URL; of a URL only the manifest is fetched.

    Returns:
        The manifest's fields, ``store_id``, ``record_bytes`` (per view of a sample, without checksums; at most, where
        lengths vary), ``bytes_per_view`` (that, or the mean on disk where lengths vary), ``views``
        (shards present and expected, by view), ``complete_views``, ``bytes_on_disk`` and ``replayable``.

    Raises:
        StoreError: There is no store, or it cannot be opened.
    """
    store = LogitStore(path)
    meta, coverage = store.manifest, store.coverage()
    fields = ('format', 'num_samples', 'num_classes', 'topk', 'codec', 'samples_per_shard', 'base_seed', 'mixing',
              'reference_view', 'fingerprints')
    return dict(path=str(path), store_id=meta.store_id.hex()) | {name: getattr(meta, name) for name in fields} | dict(
        record_bytes=store.record_bytes,
        bytes_per_view=store.bytes_per_view,
        views={view: covered._asdict() for view, covered in coverage.items()},
        complete_views=[view for view, covered in coverage.items() if covered.complete],
        bytes_on_disk=store.num_bytes(),
        replayable=is_replayable(meta))


def describe_sample(store: LogitStore, key: str, views: Sequence[int] | None = None, top: int = 5,
                    classes: Sequence[str] | None = None) -> dict[str, Any]:
    """What the teacher said about one sample, view by view.

    Args:
        store, key: The store, and the sample's key.
        views: The views to read; all whose shard is there by default.
        top: How many classes to list per view, the most probable first.
        classes: Their names.

    Returns:
        ``key``, ``position`` and ``views``: a list with ``view``, ``tail_mass``, ``partner`` (with mixing: the key
        hash of the sample that was mixed in, in hexadecimal), and ``top``: a list of ``class``, ``name``, ``log_prob``
        and ``prob``.

    Raises:
        StoreError: There is no such sample, a view that was asked for is missing, or a record is damaged.
    """
    position = int(store.positions([key])[0])
    if views is None:
        shard = position // store.manifest.samples_per_shard
        views = [view for view, shards in store.shards().items() if shard in shards]
    rows = []
    for view in views:
        index, log_prob, tail_mass, partner_hash = store.read(view, [key]).row(0)
        best = np.argsort(-log_prob, kind='stable')[:top].tolist()
        said = [{'class': int(index[k]), 'name': classes[index[k]] if classes else None,
                 'log_prob': float(log_prob[k]), 'prob': float(np.exp(float(log_prob[k])))} for k in best]
        rows.append(dict(view=int(view), tail_mass=float(tail_mass), top=said))
        if partner_hash is not None:
            rows[-1]['partner'] = f'{int(partner_hash):016x}'
    return dict(key=key, position=position, views=rows)


def read_class_names(path: str | Path, num_classes: int, known: Sequence[str] | None = None) -> list[str]:
    """Class names from a text file, one per line, in the order of the labels.

    Raises:
        StoreError: The file cannot be read, has another number of lines than ``num_classes``, or has names of the store
            (``known``) in other places.
    """
    try:
        names = Path(path).read_text('utf-8').splitlines()
    except (OSError, UnicodeError) as error:
        raise StoreError(f'The class names {path} cannot be read ({error}): give a text file with one name per '
                         'line.') from error
    if len(names) != num_classes:
        raise StoreError(f'{path} has {len(names)} class names, and the store has {num_classes} classes: give the list '
                         'that the teacher was trained with.')
    place = {name: number for number, name in enumerate(names)}
    for number, name in enumerate(known or ()):
        if place.get(name, number) != number:
            raise StoreError(f'{path} calls class {place[name]} {name}, which is class {number} of the store: give the '
                             'list that the teacher was trained with, or leave out --classes.')
    return names
