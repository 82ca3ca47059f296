"""CheckpointHook: whatever moment a training dies at, a whole checkpoint is on disk."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from mmtinyvit.registry import HOOKS

__all__ = ['CheckpointHook']


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook, but an old checkpoint is removed only once the one that takes its place is there.

    MMEngine removes first: with ``max_keep_ckpts=1``, a training that is killed while it writes has none left. The
    arguments are the same. :class:`~mmtinyvit.engine.runner.Runner` puts it in the place of MMEngine's.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        backend, later = self.file_backend, _RemovingLater(self.file_backend)
        self.file_backend = later
        try:
            yield
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', None) or dict(best=getattr(self, 'best_ckpt_path', None))
        for path in later.paths:
            if path not in (self.last_ckpt, *best.values()):  # written anew under the same name
                backend.remove(path)


class _RemovingLater:
    """A file backend of MMEngine that only notes what it is to remove."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def remove(self, path: str) -> None:
        self.paths.append(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
