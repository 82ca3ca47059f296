"""Does this store belong to this training? Each check names what differs, and both sides."""
import logging
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    find_seeded_augment,
    in_blocks,
    iter_keys,
    library_versions,
    pipeline_identity,
)
from mmtinyvit.datasets.paired_sampler import PairedSampler
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, MissingShard, StoreError, diff_fingerprints
from mmtinyvit.store.summary import is_replayable

from .store_request import PlannedStore

__all__ = ['check_canaries', 'check_dataset', 'check_model', 'check_pipeline']

MOST_SHARDS = 4096  # that are looked through for canaries


def check_model(store: LogitStore | PlannedStore, model: nn.Module) -> None:
    """The student's head must have the teacher's classes."""
    model = model.module if is_model_wrapper(model) else model
    head = getattr(model, 'head', None)
    classes = getattr(head, 'num_classes', None) or getattr(getattr(model, 'model', None), 'num_classes', None)
    if classes is not None and classes != store.num_classes:
        raise UserError(f'The student has {classes} classes and the store {store.root} has {store.num_classes}: set '
                        f'num_classes={store.num_classes} in the head, or point LoadTeacherLogits to another store.')


def check_pipeline(store: LogitStore | PlannedStore, dataset: Any, sampler: Any, model: nn.Module) -> None:
    """The views must be made as the teacher saw them: same transforms, same base seed, same mixing."""
    if not is_replayable(store.manifest):
        raise UserError(f'The views of the store {store.root} cannot be made again (it was imported without the seeds '
                        'of its images): save a store with tools/save_logits.py to train from.')
    augment = find_seeded_augment(dataset)
    model = model.module if is_model_wrapper(model) else model
    mixing = getattr(model.data_preprocessor, 'mixing', None)
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        raise UserError("The student's data preprocessor has batch_augments, which mix images that the teacher saw "
                        'otherwise: remove them, or save and train with mixing= of mmtinyvit.ReplayDataPreprocessor.')
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


def check_dataset(store: LogitStore, dataset: Any, wanted: Collection[str] = (),
                  any_order: bool = False) -> dict[str, int]:
    """The dataset must be the store's, or a part of it when views are not mixed.

    Args:
        store: The store.
        dataset: The dataset.
        wanted: Keys whose place in the dataset is asked for.
        any_order: Whether all samples of the store may come in another order than the store's; not when mixed.

    Returns:
        dict: Their indices by key, of those that the dataset has.

    Raises:
        UserError: The classes or the order differ, or a sample is not in the store.
    """
    keys = partial(iter_keys, dataset, find_seeded_augment(dataset).key_root)
    if not len(dataset):
        raise UserError('The training dataset has no samples: check data_root and ann_file.')
    stored = store.manifest.fingerprints.get('dataset', {})
    ours = dataset_identity(keys(), getattr(dataset, 'metainfo', {}).get('classes'))
    advice = 'Train on the data that the store was saved from, or save a new store.'
    theirs, mine = stored.get('classes_hash'), ours['classes_hash']
    if theirs and mine and theirs != mine:
        raise UserError(f"The store {store.root} was saved with another class list ({stored['num_classes']} names, "
                        f"hash {theirs[:12]}) than the dataset has ({ours['num_classes']} names, hash {mine[:12]}). "
                        f'{advice}')
    if stored.get('order_hash') != ours['order_hash']:
        if store.mixing:
            raise UserError(f'The store {store.root} mixes pairs of {store.num_samples} samples, and the dataset has '
                            f'{len(dataset)} in another order or others: mixed views need the same list. {advice}')
        ordered, last = True, -1
        for block in in_blocks(keys()):
            try:
                positions = store.positions(block)
            except StoreError as error:
                raise UserError(f'{error} {advice}') from error
            ordered &= bool(positions[0] > last and (np.diff(positions) > 0).all())
            last = positions[-1]
        if len(dataset) == store.num_samples and not ordered and not any_order:
            raise UserError(f'The dataset has the samples of the store {store.root} in another order: list them in '
                            "the store's order (its samples.txt), or, if the order is meant to differ, set "
                            'any_order=True of SparseLogitDistillHook; records are found by name.')
    return {key: i for i, key in enumerate(keys()) if key in wanted} if wanted else {}


def check_canaries(store: LogitStore, dataset: Any, views: list[int], count: int, any_order: bool = False) -> int:
    """Check the dataset as :func:`check_dataset` does, replay a few views, and compare their pixels with the store's.

    Args:
        store: The store.
        dataset: The dataset with its replaying pipeline.
        views: Views in use; shards that are not there are passed over.
        count: How many canaries to replay at most.
        any_order: As for :func:`check_dataset`.

    Returns:
        int: How many were replayed; fewer than ``count`` if the dataset has fewer of the samples that have canaries,
        and the log warns if it has none.

    Raises:
        UserError: The dataset or the pixels differ; names what the store was saved with and what is installed.
    """
    shards = store.coverage()[views[0]].expected
    enough = count if len(dataset) == store.num_samples else 64 * count  # a part of the samples has only some of them
    canaries = {}  # by key
    for n, shard in enumerate(_spread(shards)[:MOST_SHARDS].tolist()):
        view = views[n % len(views)]
        try:
            found = store.canaries(view, shard)
        except MissingShard:  # of a view that is still being filled
            continue
        canaries |= {store.key(position): (view, digest) for position, digest in found.items()}
        if len(canaries) >= enough:
            break
    where, viewed = check_dataset(store, dataset, canaries, any_order), ViewDataset(dataset)
    found = list(where)
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))] if found else []
    for key in chosen:
        view, digest = canaries[key]
        if canary_digest(viewed[view, where[key]]['inputs']) != digest:
            raise UserError(_what_changed(store, view, key))
    if not chosen:
        print_log(f'None of the {len(dataset)} samples has a canary in the store {store.root}, so nothing shows if '
                  'the views are still the pixels that the teacher saw: compare them by running "python '
                  'tools/check_logits.py STORE --teacher CONFIG", or save a store in smaller shards, each of which '
                  'gets a canary.', 'current', logging.WARNING)
    return len(chosen)


def _spread(count: int) -> np.ndarray:
    """The numbers below ``count``, ordered by multiples of the golden ratio: every beginning is spread evenly."""
    return np.argsort(np.arange(count) * 0.6180339887498949 % 1, kind='stable')


def _what_changed(store: LogitStore, view: int, key: str) -> str:
    lines = diff_fingerprints(store.manifest.fingerprints.get('versions', {}), library_versions())
    what = (f"these libraries changed (stored != installed): {'; '.join(lines)}" if lines else
            'the library versions are the same, so the image file, its decoder or a transform has changed')
    return (f'View {view} of {key} does not replay to the pixels that the teacher saw: {what}. Restore them, or save a '
            f'new store with what is installed (the store is {store.root}).')
