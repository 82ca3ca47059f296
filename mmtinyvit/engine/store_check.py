"""The stores of a training: whether they are of the same samples, views, classes and pixels.

Each check names what differs, and both sides.
"""
import hashlib
import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import Runner
from timm.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    in_blocks,
    iter_keys,
    library_versions,
    pipeline_identity,
)
from mmtinyvit.datasets.load_teacher_logits import find_reader
from mmtinyvit.datasets.mixing import PairedSampler
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.datasets.views import find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, Manifest, MissingShard, StoreError, diff_fingerprints
from mmtinyvit.store.admin.summary import is_replayable
from mmtinyvit.store.layout import spell_numbers

from .label_check import check_labels, check_mixed_labels, num_outputs

__all__ = ['StoreCheck', 'check_canaries', 'check_dataset', 'complete_views', 'store_identity']

MOST_SHARDS = 4096  # that are looked through for canaries
Place = str | Path


class StoreCheck:
    """Holds a training to the stores that it reads, or is going to write; what differs is a :class:`UserError`.

    Args:
        num_canaries, teacher, topk, any_order: See :class:`~mmtinyvit.engine.hooks.SparseLogitDistillHook`.
    """

    def __init__(self, num_canaries: int = 8, teacher: str | Sequence[str] | None = None,
                 topk: int | Sequence[int] | None = None, any_order: bool = False) -> None:
        self.num_canaries, self.any_order = num_canaries, any_order
        self.wanted = dict(teacher=teacher, topk=topk)

    def stores(self, runner: Runner, wanted: Sequence[int] | None) -> list[int]:
        """Compare the stores that a training reads with its config, dataset, pipeline and model, and log what they are.

        Args:
            wanted: The views that must be complete; None for all that every store has completely.

        Returns:
            list: The views to train on, in order.
        """
        reader = find_reader(runner.train_dataloader.dataset)
        stores = reader.stores
        views = complete_views(stores, wanted)
        for number, (store, weight) in enumerate(zip(stores, reader.weights, strict=True)):
            self.config(runner, store.root, store.manifest, number, len(stores))
            checked = self.content(runner, store, views)
            share = f', weight {weight:.3g}' if len(stores) > 1 else ''
            read = f', of which {reader.topk} are read' if reader.topk else ''
            teacher, width = store.manifest.fingerprints.get('teacher', {}), store.bytes_per_view
            runner.logger.info(
                f'Teacher store {store.root}: {store.num_samples:,} samples x {len(views)} views, top {store.topk} of '
                f'{store.num_classes:,} classes{read}, {store.codec}, {width:g} bytes per view, '
                f'{width * store.num_samples * len(views):,.0f} bytes, teacher {teacher.get("name")} '
                f'{str(teacher.get("weights_hash"))[:12]}{share}; {checked} canaries replayed')
        if len(views) < runner.max_epochs:
            runner.logger.info(f'{runner.max_epochs} epochs read {len(views)} stored views: epoch e uses view '
                               f'number e % {len(views)} of {spell_numbers(views)}.')
        return views

    def config(self, runner: Runner, place: Place, manifest: Manifest, number: int = 0, count: int = 1) -> None:
        """Compare the manifest of store ``number`` of ``count`` with the config; the store itself need not exist."""
        model = unwrap_model(runner.model)
        if not getattr(model, 'reads_record', False):
            name = type(model).__name__
            raise UserError(f'The pipeline reads the store {place}, and {name} as it is set learns nothing from it: '
                            'take mmtinyvit.DistillClassifier or DistillTimmClassifier, or DeiTDistillClassifier with '
                            'alpha above 0 and no teacher, as the model; a model of your own that reads the record '
                            'says so by its attribute reads_record = True.')
        classes = num_outputs(model)
        if classes not in (None, manifest.num_classes):
            raise UserError(f'The student has {classes} classes and the store {place} has {manifest.num_classes}: set '
                            f'num_classes={manifest.num_classes} in the head, or set store= to another store.')
        _check_pipeline(place, manifest, runner.train_dataloader, model.data_preprocessor)
        if getattr(model, 'reads_labels', True):
            check_labels(runner.train_dataloader.dataset, manifest.num_classes, manifest.class_names)
        wanted = []
        for name, value in self.wanted.items():
            values = value if isinstance(value, (list, tuple)) else [value] * count
            if len(values) != count:
                raise UserError(f'{name}= of SparseLogitDistillHook lists {len(values)} values for {count} stores: '
                                'give one for each.')
            wanted.append(values[number])
        teacher, topk = wanted
        saved = manifest.fingerprints.get('teacher', {})
        if teacher and not str(saved.get('weights_hash', '')).startswith(teacher):
            raise UserError(f"The store {place} comes from the teacher {saved.get('weights_hash')} "
                            f"({saved.get('name')}), not from {teacher}: set store= to the right store, or "
                            'correct teacher= of the hook.')
        if topk not in (None, manifest.topk):
            raise UserError(f'The store {place} has the top {manifest.topk} classes of each view, and the hook wants '
                            f'topk={topk}: set store= to the right store, or correct topk=.')

    def content(self, runner: Runner, store: LogitStore, views: Sequence[int]) -> int:
        """Compare samples and pixels with the dataset; returns how many canaries were replayed."""
        dataset, labels = runner.train_dataloader.dataset, getattr(unwrap_model(runner.model), 'reads_labels', True)
        if self.num_canaries and views:
            return check_canaries(store, dataset, list(views), self.num_canaries, self.any_order, labels)
        check_dataset(store, dataset, any_order=self.any_order, labels=labels)
        return 0

    @staticmethod
    def resumed(checkpoint: dict, identity: dict[str, Any]) -> None:
        """Refuses to go on with a checkpoint that was trained from other stores than those of ``identity``."""
        saved = checkpoint.get('teacher_store')
        if saved is not None and saved.get('topk') != identity.get('topk'):
            then, now = saved.get('topk') or 'all', identity.get('topk') or 'all'
            raise UserError(f'The checkpoint was trained with {then} of the stored classes, and this run reads {now}: '
                            'resume with the same topk of LoadTeacherLogits (store_topk of the config), or use '
                            'load_from without --resume.')
        if saved is not None and saved['store_id'] != identity['store_id']:  # the folder may have moved
            raise UserError(f"The checkpoint was trained from the store {saved['path']} ({saved['store_id'][:12]}), "
                            f"and this run reads {identity['path']} ({identity['store_id'][:12]}), which is another "
                            'one: resume with the same store, or use load_from without --resume.')


def complete_views(stores: list[LogitStore], wanted: Sequence[int] | None) -> list[int]:
    """The views to train on. Raises :class:`UserError` if one that is wanted is not complete, or none is."""
    complete = [store.complete_views() for store in stores]
    for store, views in zip(stores, complete, strict=True):
        missing = sorted(set(wanted or []) - set(views))
        if missing or not views:
            what = f'views {spell_numbers(missing)}' if missing else 'any view'
            raise UserError(f'The store {store.root} does not have {what} completely (complete: '
                            f'{spell_numbers(views)}): run "mmtinyvit save" again, it does only what is missing.')
    common = sorted(set.intersection(*map(set, complete)))
    if not common:
        raise UserError(f"The stores {' and '.join(str(store.root) for store in stores)} have no complete view in "
                        'common: save the same views with each teacher.')
    return list(wanted) if wanted else common


def store_identity(stores: Sequence[LogitStore], weights: Sequence[float], topk: int | None = None) -> dict[str, Any]:
    """Path, identity and class names of a store; of several, one identity that their weights are part of.

    ``topk`` is part of it if it is set.
    """
    read = {} if topk is None else dict(topk=topk)
    paths, ids = [str(store.root) for store in stores], [store.manifest.store_id.hex() for store in stores]
    classes = next((store.manifest.class_names for store in stores if store.manifest.class_names), None)
    if len(ids) == 1:
        return dict(path=paths[0], store_id=ids[0], classes=classes, **read)
    text = ' '.join(f'{store_id} {weight:.9f}' for store_id, weight in zip(ids, weights, strict=True))
    return dict(path=' + '.join(paths), store_id=hashlib.sha256(text.encode()).hexdigest()[:32], classes=classes,
                **read)


def _check_pipeline(place: Place, manifest: Manifest, loader: DataLoader, preprocessor: nn.Module) -> None:
    """The views must be made as the teacher saw them: same transforms, same base seed, same mixing."""
    if not is_replayable(manifest):
        raise UserError(f'The views of the store {place} cannot be made again (it was imported without the seeds '
                        'of its images): save a store with "mmtinyvit save" to train from.')
    augment, mixing = find_seeded_augment(loader.dataset), getattr(preprocessor, 'mixing', None)
    if getattr(preprocessor, 'batch_augments', None) is not None:
        raise UserError("The student's data preprocessor has batch_augments, which mix images that the teacher saw "
                        'otherwise: remove them, or save and train with mixing= of mmtinyvit.ReplayDataPreprocessor.')
    if mixing and preprocessor.to_onehot:
        check_mixed_labels(loader.dataset, preprocessor.num_classes)
    lines = []
    if augment.base_seed != manifest.base_seed:
        lines.append(f'base_seed: {manifest.base_seed} != {augment.base_seed}')
    ours = pipeline_identity(loader.dataset, mixing.config if mixing else None)
    lines += diff_fingerprints(manifest.fingerprints.get('pipeline', {}), ours, 'pipeline')
    if mixing and not isinstance(loader.sampler, PairedSampler):
        lines.append(f'sampler: mmtinyvit.PairedSampler != {type(loader.sampler).__name__}')
    if lines:
        raise UserError(f'The store {place} holds other views than this training makes (stored != config): '
                        f"{'; '.join(lines)}. Restore the pipeline that the store was saved with, or save a new store.")


def check_dataset(store: LogitStore, dataset: Any, wanted: Collection[str] = (), any_order: bool = False,
                  labels: bool = False) -> dict[str, int]:
    """The dataset must be the store's, or a part of it when views are not mixed.

    Args:
        store, dataset: The training's.
        wanted: Keys whose place in the dataset is asked for.
        any_order: Whether all samples of the store may come in another order than the store's; not when mixed.
        labels: Whether labels are read. Only then must the class list be the one that the store was saved with, unless
            the store knows what its classes are called, with which labels are compared then.

    Returns:
        dict: Their indices by key, of those that the dataset has.

    Raises:
        UserError: The order or the class list differs, or a sample is not in the store.
    """
    keys = partial(iter_keys, dataset, find_seeded_augment(dataset).key_root)
    if not len(dataset):
        raise UserError('The training dataset has no samples: check data_root and ann_file.')
    stored = store.manifest.fingerprints.get('dataset', {})
    ours = dataset_identity(keys(), getattr(dataset, 'metainfo', {}).get('classes'))
    advice = 'Train on the data that the store was saved from, or save a new store.'
    store_hash, dataset_hash = stored.get('classes_hash'), ours['classes_hash']
    unnamed = labels and not store.manifest.class_names
    if unnamed and store_hash and dataset_hash and store_hash != dataset_hash:
        raise UserError(f"The store {store.root} was saved with another class list ({stored['num_classes']} names, "
                        f"hash {store_hash[:12]}) than the dataset has ({ours['num_classes']} names, hash "
                        f'{dataset_hash[:12]}). {advice}')
    if stored.get('order_hash') != ours['order_hash']:
        if store.mixing:
            raise UserError(f'The store {store.root} mixes pairs of {store.num_samples} samples, and the dataset has '
                            f'{len(dataset)} in another order or others: mixed views need the same list. {advice}')
        ordered, last = True, -1
        for block in in_blocks(keys()):
            try:
                positions = store.positions(block)
            except StoreError as error:
                share = (f' Of the {len(dataset):,} samples of the dataset the store can have no more than '
                         f'{store.num_samples:,}: if it was saved with share= of the dataset, give the same share here.'
                         ) if len(dataset) > store.num_samples else ''
                raise UserError(f'{error} {advice}{share}') from error
            ordered &= bool(positions[0] > last and (np.diff(positions) > 0).all())
            last = positions[-1]
        if len(dataset) == store.num_samples and not ordered and not any_order:
            raise UserError(f'The dataset has the samples of the store {store.root} in another order: list them in '
                            "the store's order (its samples.txt), or, if the order is meant to differ, set "
                            'any_order=True of SparseLogitDistillHook; records are found by name.')
    return {key: i for i, key in enumerate(keys()) if key in wanted} if wanted else {}


def check_canaries(store: LogitStore, dataset: Any, views: list[int], count: int, any_order: bool = False,
                   labels: bool = False) -> int:
    """Check the dataset as :func:`check_dataset` does, replay a few views, and compare their pixels with the store's.

    Args:
        store, dataset, any_order, labels: As for :func:`check_dataset`.
        views: Views in use; shards that are not there are passed over.
        count: How many canaries to replay at most.

    Returns:
        int: How many were replayed; fewer than ``count`` if the dataset has fewer of the samples that have canaries,
        and the log warns if it has none.

    Raises:
        UserError: The dataset or the pixels differ; names what the store was saved with and what is installed.
    """
    shards = store.coverage()[views[0]].expected
    enough = count if len(dataset) == store.num_samples else 64 * count  # a part of the samples has only some of them
    canaries = {}  # by key
    # By multiples of the golden ratio: every beginning of this order is spread evenly over the shards.
    order = np.argsort(np.arange(shards) * 0.6180339887498949 % 1, kind='stable')
    for n, shard in enumerate(order[:MOST_SHARDS].tolist()):
        view = views[n % len(views)]
        try:
            found = store.canaries(view, shard)
        except MissingShard:  # of a view that is still being filled
            continue
        canaries |= {store.key(position): (view, digest) for position, digest in found.items()}
        if len(canaries) >= enough:
            break
    where, view_dataset = check_dataset(store, dataset, canaries, any_order, labels), ViewDataset(dataset)
    found = list(where)
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))] if found else []
    for key in chosen:
        view, digest = canaries[key]
        if canary_digest(view_dataset[view, where[key]]['inputs']) != digest:
            lines = diff_fingerprints(store.manifest.fingerprints.get('versions', {}), library_versions())
            what = (f"these libraries changed (stored != installed): {'; '.join(lines)}" if lines else
                    'the library versions are the same, so the image file, its decoder or a transform has changed')
            raise UserError(f'View {view} of {key} does not replay to the pixels that the teacher saw: {what}. Restore '
                            f'them, or save a new store with what is installed (the store is {store.root}).')
    if not chosen:
        print_log(f'None of the {len(dataset)} samples has a canary in the store {store.root}, so nothing shows if '
                  'the views are still the pixels that the teacher saw: compare them by running '
                  '"mmtinyvit store verify STORE --teacher CONFIG", or save a store in smaller shards, each of '
                  'which gets a canary.', 'current', logging.WARNING)
    return len(chosen)
