"""Does this store belong to this training? Each check names what differs, and both sides."""
from typing import Any

import numpy as np
from mmengine.model import is_model_wrapper
from torch import nn

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    find_seeded_augment,
    iter_keys,
    library_versions,
    pipeline_identity,
)
from mmtinyvit.datasets.paired_sampler import PairedSampler
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, StoreError, diff_fingerprints

__all__ = ['check_canaries', 'check_dataset', 'check_model', 'check_pipeline']


def check_model(store: LogitStore, model: nn.Module) -> None:
    """The student's head must have the teacher's classes."""
    model = model.module if is_model_wrapper(model) else model
    head = getattr(model, 'head', None)
    classes = getattr(head, 'num_classes', None) or getattr(getattr(model, 'model', None), 'num_classes', None)
    if classes is not None and classes != store.num_classes:
        raise UserError(f'The student has {classes} classes and the store {store.root} has {store.num_classes}: set '
                        f'num_classes={store.num_classes} in the head, or point LoadTeacherLogits to another store.')


def check_pipeline(store: LogitStore, dataset: Any, sampler: Any, model: nn.Module) -> None:
    """The views must be made as the teacher saw them: same transforms, same base seed, same mixing."""
    augment = find_seeded_augment(dataset)
    model = model.module if is_model_wrapper(model) else model
    mixing = getattr(model.data_preprocessor, 'mixing', None)
    lines = []
    if augment.base_seed != store.base_seed:
        lines.append(f'base_seed: {store.base_seed} != {augment.base_seed}')
    ours = pipeline_identity(augment, mixing.config if mixing else None)
    lines += diff_fingerprints(store.manifest.fingerprints.get('pipeline', {}), ours, 'pipeline')
    if mixing and mixing.base_seed != store.base_seed:
        lines.append(f'base_seed of mixing: {store.base_seed} != {mixing.base_seed}')
    if mixing and not isinstance(sampler, PairedSampler):
        lines.append(f'sampler: mmtinyvit.PairedSampler != {type(sampler).__name__}')
    elif mixing and sampler.base_seed != store.base_seed:
        lines.append(f'base_seed of PairedSampler: {store.base_seed} != {sampler.base_seed}')
    if lines:
        raise UserError(f'The store {store.root} holds other views than this training makes (stored != config): '
                        f"{'; '.join(lines)}. Restore the pipeline that the store was saved with, or save a new store.")


def check_dataset(store: LogitStore, dataset: Any) -> dict[str, int]:
    """The dataset must be the store's, or a part of it when views are not mixed.

    Returns:
        dict: The index in ``dataset`` of every sample of the store that is worth replaying, by key.

    Raises:
        UserError: The classes or the order differ, or a sample is not in the store.
    """
    prints = store.manifest.fingerprints
    keys = list(iter_keys(dataset, find_seeded_augment(dataset).key_root))
    ours = dataset_identity(keys, getattr(dataset, 'metainfo', {}).get('classes'))
    stored = prints.get('dataset', {})
    if not keys:
        raise UserError('The training dataset has no samples: check data_root and ann_file.')
    advice = 'Train on the data that the store was saved from, or save a new store.'
    if stored.get('classes_hash') != ours['classes_hash'] and ours['classes_hash'] and stored.get('classes_hash'):
        raise UserError(f"The store {store.root} was saved with another class list ({stored['num_classes']} names, hash "
                        f"{stored['classes_hash'][:12]}) than the dataset has ({ours['num_classes']} names, hash "
                        f"{ours['classes_hash'][:12]}). {advice}")
    if stored.get('order_hash') != ours['order_hash']:
        if stored.get('set_hash') == ours['set_hash']:
            raise UserError(f'The dataset has the samples of the store {store.root} in another order: list them in the '
                            "store's order (its samples.txt).")
        if store.mixing:
            raise UserError(f'The store {store.root} mixes pairs of {store.num_samples} samples, and the dataset has '
                            f'{len(keys)} others: mixed views need the whole dataset. {advice}')
        try:
            for start in range(0, len(keys), 65_536):
                store.positions(keys[start:start + 65_536])
        except StoreError as error:
            raise UserError(f'{error} {advice}') from error
    return {key: i for i, key in enumerate(keys)}


def check_canaries(store: LogitStore, dataset: Any, where: dict[str, int], views: list[int], count: int) -> int:
    """Replay a few views and compare their pixels with the hashes in the store.

    Args:
        store: The store.
        dataset: The training dataset.
        where: Indices by key, from :func:`check_dataset`.
        views: Views in use.
        count: How many canaries to replay at most.

    Returns:
        int: How many were replayed.

    Raises:
        UserError: The pixels differ; names what the store was saved with and what is installed.
    """
    checked, viewed = 0, ViewDataset(dataset)
    shards = store.coverage()[views[0]].expected
    for n in range(min(count, len(views) * shards)):
        view, shard = views[n % len(views)], int(np.linspace(0, shards - 1, count).round()[n]) if count > 1 else 0
        for position, digest in store.canaries(view, shard).items():
            key = store.key(position)
            if key not in where:
                continue
            if canary_digest(viewed[view, where[key]]['inputs']) != digest:
                raise UserError(_what_changed(store, view, key))
            checked += 1
            if checked == count:
                return checked
    return checked


def _what_changed(store: LogitStore, view: int, key: str) -> str:
    lines = diff_fingerprints(store.manifest.fingerprints.get('versions', {}), library_versions())
    what = (f"these libraries changed (stored != installed): {'; '.join(lines)}" if lines else
            'the library versions are the same, so the image file, its decoder or a transform has changed')
    return (f'View {view} of {key} does not replay to the pixels that the teacher saw: {what}. Restore them, or save a '
            f'new store with what is installed (the store is {store.root}).')
