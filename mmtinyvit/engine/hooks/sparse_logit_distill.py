"""SparseLogitDistillHook: refuses the wrong store, and keeps views and epochs in step."""
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.datasets.load_teacher_logits import find_store
from mmtinyvit.engine.store_check import check_canaries, check_dataset, check_model, check_pipeline
from mmtinyvit.errors import UserError
from mmtinyvit.registry import HOOKS
from mmtinyvit.store import LogitStore

from .epoch_clock import advance_clock

__all__ = ['SparseLogitDistillHook']


@HOOKS.register_module()
class SparseLogitDistillHook(Hook):
    """Hold a training to the store that its pipeline reads.

    Before training: compares the store with the config's dataset, pipeline and model, replays a few canaries, and
    refuses a mismatch with both sides named. Before each epoch: advances the shared clock to the view that the epoch
    reads, ``views[epoch % len(views)]``. When saving a checkpoint: writes the store's identity into it; when resuming:
    refuses a checkpoint of another store.

    Args:
        views: The views to use, in order; all complete ones by default.
        num_canaries: How many stored pixel hashes to compare with replayed views before training starts; 0 turns the
            comparison off.
        teacher: Beginning of the hash of the teacher's weights that the store must come from, as shown in the log;
            None accepts any.
        topk: K that the store must have; None accepts any.
    """
    priority = 'NORMAL'

    def __init__(self, views: list[int] | None = None, num_canaries: int = 8, teacher: str | None = None,
                 topk: int | None = None) -> None:
        self.wanted_views = views
        self.num_canaries = num_canaries
        self.teacher = teacher
        self.topk = topk
        self.views: list[int] = []
        self._store: LogitStore | None = None

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        store = self._find_store(runner)
        self.views = _complete_views(store, self.wanted_views)
        check_model(store, runner.model)
        check_pipeline(store, dataset, runner.train_dataloader.sampler, runner.model)
        prints = store.manifest.fingerprints
        teacher = prints.get('teacher', {})
        if self.teacher and not str(teacher.get('weights_hash', '')).startswith(self.teacher):
            raise UserError(f"The store {store.root} comes from the teacher {teacher.get('weights_hash')} "
                            f"({teacher.get('name')}), not from {self.teacher}: point LoadTeacherLogits to the right "
                            'store, or correct teacher= of SparseLogitDistillHook.')
        if self.topk not in (None, store.topk):
            raise UserError(f'The store {store.root} has the top {store.topk} classes of each view, and '
                            f'SparseLogitDistillHook wants topk={self.topk}: point LoadTeacherLogits to the right '
                            'store, or correct topk=.')
        checked = 0
        if self.num_canaries:
            checked = check_canaries(store, dataset, self.views, self.num_canaries)
        else:
            check_dataset(store, dataset)
        num_bytes = store.record_bytes * store.num_samples * len(self.views)
        runner.logger.info(
            f"Teacher store {store.root}: {store.num_samples:,} samples x {len(self.views)} views, top {store.topk} of "
            f"{store.num_classes:,} classes, {store.codec}, {store.record_bytes} bytes per view, {num_bytes:,} bytes, "
            f"teacher {teacher.get('name')} {str(teacher.get('weights_hash'))[:12]}; {checked} canaries replayed")
        if len(self.views) < runner.max_epochs:
            runner.logger.info(f'{runner.max_epochs} epochs read {len(self.views)} stored views: epoch e uses view '
                               f'number e % {len(self.views)} of {_spell(self.views)}.')

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
        store = self._find_store(runner)
        return dict(path=str(store.root), store_id=store.manifest.store_id.hex())

    def _find_store(self, runner: Runner) -> LogitStore:
        if self._store is None:
            self._store = find_store(runner.train_dataloader.dataset)
        return self._store


def _complete_views(store: LogitStore, wanted: list[int] | None) -> list[int]:
    """The views to train on. Raises :class:`UserError` if one that is wanted is not complete, or none is."""
    complete = [view for view, there in store.coverage().items() if there.present == there.expected]
    missing = sorted(set(wanted or []) - set(complete))
    if missing or not complete:
        what = f'views {_spell(missing)}' if missing else 'any view'
        raise UserError(f'The store {store.root} does not have {what} completely (complete: {_spell(complete)}): run '
                        'tools/save_logits.py again, it does only what is missing.')
    return list(wanted) if wanted else complete


def _spell(views: list[int]) -> str:
    """``'0 to 3, 7'``."""
    parts: list[list[int]] = []
    for view in views:
        if parts and parts[-1][1] == view - 1:
            parts[-1][1] = view
        else:
            parts.append([view, view])
    return ', '.join(str(a) if a == b else f'{a} to {b}' for a, b in parts) or 'none'
