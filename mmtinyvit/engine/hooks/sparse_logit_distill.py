"""SparseLogitDistillHook: refuses the wrong store, and keeps views and epochs in step."""
from collections.abc import Sequence
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtinyvit.datasets.load_teacher_logits import use_store
from mmtinyvit.datasets.view_dataset import read_in_batches
from mmtinyvit.engine.store_check import StoreCheck, store_identity
from mmtinyvit.errors import UserError
from mmtinyvit.registry import HOOKS

from .epoch_clock import advance_clock

__all__ = ['SparseLogitDistillHook', 'StoreHook']


class StoreHook(Hook):
    """When saving a checkpoint: writes the identity of the training's store into it; when resuming: compares it.

    The outputs of a student are the classes of its store. So the checkpoint's ``dataset_meta`` has their names, or none
    if the store does not know them, where MMEngine would have those of the images' folders.
    """
    check: StoreCheck

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['teacher_store'] = self.identity(runner)
        checkpoint['meta']['dataset_meta'] = dict(classes=checkpoint['teacher_store']['classes'])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self.check.resumed(checkpoint, self.identity(runner))
            # what MMEngine is going to compare; it would warn of every student
            checkpoint.get('meta', {})['dataset_meta'] = runner.train_dataloader.dataset.metainfo

    def identity(self, runner: Runner) -> dict[str, Any]:
        """Path, identity and class names of the training's store, see :func:`.store_check.store_identity`."""
        reader = use_store(runner.train_dataloader.dataset, runner.cfg)
        return store_identity(reader.stores, reader.weights, reader.topk)


@HOOKS.register_module()
class SparseLogitDistillHook(StoreHook):
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

    def __init__(self, views: Sequence[int] | None = None, num_canaries: int = 8,
                 teacher: str | Sequence[str] | None = None, topk: int | Sequence[int] | None = None,
                 any_order: bool = False) -> None:
        self.wanted_views = views
        self.check = StoreCheck(num_canaries, teacher, topk, any_order)
        self.views: list[int] = []

    def before_train(self, runner: Runner) -> None:
        read_in_batches(runner.train_dataloader.dataset)
        reader = use_store(runner.train_dataloader.dataset, runner.cfg)
        if reader.mode != 'stored':
            raise UserError(f"mode={reader.mode!r} of LoadTeacherLogits needs a teacher: put mmtinyvit.CacheLogitsHook "
                            'in the place of SparseLogitDistillHook.')
        self.views = self.check.stores(runner, self.wanted_views)

    def before_train_epoch(self, runner: Runner) -> None:
        advance_clock(runner, self.views)
