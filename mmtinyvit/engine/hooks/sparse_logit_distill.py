"""SparseLogitDistillHook: refuses the wrong store, and keeps views and epochs in step."""
import hashlib
from collections.abc import Sequence
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.datasets.load_teacher_logits import find_reader
from mmtinyvit.engine.store_check import check_canaries, check_dataset, check_model, check_pipeline
from mmtinyvit.engine.store_request import PlannedStore
from mmtinyvit.errors import UserError
from mmtinyvit.registry import HOOKS
from mmtinyvit.store import LogitStore

from .epoch_clock import advance_clock

__all__ = ['SparseLogitDistillHook', 'each_of', 'spell_views']


@HOOKS.register_module()
class SparseLogitDistillHook(Hook):
    """Hold a training to the store, or the stores, that its pipeline reads.

    Before training: compares each store with the config's dataset, pipeline and model, replays a few canaries, and
    refuses a mismatch with both sides named. Before each epoch: advances the shared clock to the view that the epoch
    reads, ``views[epoch % len(views)]``. When saving a checkpoint: writes the store's identity into it; when resuming:
    refuses a checkpoint of another store.

    Args:
        views: The views to use, in order; by default all that every store has completely.
        num_canaries: How many stored pixel hashes to compare with replayed views before training starts; 0 turns the
            comparison off.
        teacher: Beginning of the hash of the teacher's weights that the store must come from, as shown in the log;
            of several stores a list, in their order. None accepts any.
        topk: K that the store must have, or a list; None accepts any.
        any_order: Whether the dataset may list all samples of the store in another order; for a store that was grown by
            merging.
    """
    priority = 'NORMAL'

    def __init__(self, views: Sequence[int] | None = None, num_canaries: int = 8,
                 teacher: str | Sequence[str] | None = None, topk: int | Sequence[int] | None = None,
                 any_order: bool = False) -> None:
        self.wanted_views = views
        self.num_canaries = num_canaries
        self.teacher = teacher
        self.topk = topk
        self.any_order = any_order
        self.views: list[int] = []

    def before_train(self, runner: Runner) -> None:
        reader = find_reader(runner.train_dataloader.dataset)
        if reader.mode != 'stored':
            raise UserError(f"mode={reader.mode!r} of LoadTeacherLogits needs a teacher: put mmtinyvit.CacheLogitsHook "
                            'in the place of SparseLogitDistillHook.')
        stores = reader.stores
        self.views = _complete_views(stores, self.wanted_views)
        wishes = zip(each_of(self.teacher, len(stores), 'teacher'), each_of(self.topk, len(stores), 'topk'),
                     strict=True)
        for store, weight, (teacher, topk) in zip(stores, reader.weights, wishes, strict=True):
            self._check_config(runner, store, teacher, topk)
            checked = self._check_content(runner, store, self.views)
            share = f', weight {weight:.3g}' if len(stores) > 1 else ''
            runner.logger.info(f'{_describe(store, len(self.views))}{share}; {checked} canaries replayed')
        if len(self.views) < runner.max_epochs:
            runner.logger.info(f'{runner.max_epochs} epochs read {len(self.views)} stored views: epoch e uses view '
                               f'number e % {len(self.views)} of {spell_views(self.views)}.')

    def before_train_epoch(self, runner: Runner) -> None:
        advance_clock(runner, self.views)

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['teacher_store'] = self._identity(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        saved = checkpoint.get('teacher_store')
        if saved is None or not runner._resume:
            return
        ours = self._identity(runner)
        if saved['store_id'] != ours['store_id']:  # the folder may have moved
            raise UserError(f"The checkpoint was trained from the store {saved['path']} ({saved['store_id'][:12]}), "
                            f"and this run reads {ours['path']} ({ours['store_id'][:12]}), which is another one: "
                            'resume with the same store, or use load_from without --resume.')

    def _identity(self, runner: Runner) -> dict[str, str]:
        """Path and identity of the store; of several, one identity that their weights are part of."""
        reader = find_reader(runner.train_dataloader.dataset)
        paths, ids = [str(store.root) for store in reader.stores], [s.manifest.store_id.hex() for s in reader.stores]
        if len(ids) == 1:
            return dict(path=paths[0], store_id=ids[0])
        text = ' '.join(f'{each} {weight:.9f}' for each, weight in zip(ids, reader.weights, strict=True))
        return dict(path=' + '.join(paths), store_id=hashlib.sha256(text.encode()).hexdigest()[:32])

    def _check_config(self, runner: Runner, store: LogitStore | PlannedStore, wanted_teacher: str | None,
                      wanted_topk: int | None) -> None:
        """What the store is of, against the config; reads no record."""
        check_model(store, runner.model)
        check_pipeline(store, runner.train_dataloader.dataset, runner.train_dataloader.sampler, runner.model)
        teacher = store.manifest.fingerprints.get('teacher', {})
        if wanted_teacher and not str(teacher.get('weights_hash', '')).startswith(wanted_teacher):
            raise UserError(f"The store {store.root} comes from the teacher {teacher.get('weights_hash')} "
                            f"({teacher.get('name')}), not from {wanted_teacher}: point LoadTeacherLogits to the right "
                            f'store, or correct teacher= of {type(self).__name__}.')
        if wanted_topk not in (None, store.topk):
            raise UserError(f'The store {store.root} has the top {store.topk} classes of each view, and '
                            f'{type(self).__name__} wants topk={wanted_topk}: point LoadTeacherLogits to the right '
                            'store, or correct topk=.')

    def _check_content(self, runner: Runner, store: LogitStore, views: list[int]) -> int:
        """The store's samples and pixels, against the dataset; returns how many canaries were replayed."""
        dataset = runner.train_dataloader.dataset
        if self.num_canaries and views:
            return check_canaries(store, dataset, views, self.num_canaries, self.any_order)
        check_dataset(store, dataset, any_order=self.any_order)
        return 0


def each_of(value: Any, count: int, name: str) -> list:
    """A setting for each of several stores. Raises :class:`UserError` if it is a list of another length."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise UserError(f'{name}= of SparseLogitDistillHook lists {len(value)} values for {count} stores: give one for '
                        'each.')
    return list(value)


def _describe(store: LogitStore, num_views: int) -> str:
    """One line about a store."""
    teacher = store.manifest.fingerprints.get('teacher', {})
    width = store.bytes_per_view
    return (f'Teacher store {store.root}: {store.num_samples:,} samples x {num_views} views, top {store.topk} of '
            f'{store.num_classes:,} classes, {store.codec}, {width:g} bytes per view, '
            f'{width * store.num_samples * num_views:,.0f} bytes, '
            f"teacher {teacher.get('name')} {str(teacher.get('weights_hash'))[:12]}")


def _complete_views(stores: list[LogitStore], wanted: Sequence[int] | None) -> list[int]:
    """The views to train on. Raises :class:`UserError` if one that is wanted is not complete, or none is."""
    common: set[int] | None = None
    for store in stores:
        complete = store.complete_views()
        missing = sorted(set(wanted or []) - set(complete))
        if missing or not complete:
            what = f'views {spell_views(missing)}' if missing else 'any view'
            raise UserError(f'The store {store.root} does not have {what} completely (complete: '
                            f'{spell_views(complete)}): run tools/save_logits.py again, it does only what is missing.')
        common = set(complete) if common is None else common & set(complete)
    if not common:
        raise UserError(f"The stores {' and '.join(str(store.root) for store in stores)} have no complete view in "
                        'common: save the same views with each teacher.')
    return list(wanted) if wanted else sorted(common)


def spell_views(views: Sequence[int]) -> str:
    """``'0 to 3, 7'``."""
    parts: list[list[int]] = []
    for view in views:
        if parts and parts[-1][1] == view - 1:
            parts[-1][1] = view
        else:
            parts.append([view, view])
    return ', '.join(str(a) if a == b else f'{a} to {b}' for a, b in parts) or 'none'
