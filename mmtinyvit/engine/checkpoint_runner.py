"""CheckpointRunner: MMEngine's runner, with one rule for all checkpoints that go in and come out."""
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine.runner
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from timm.utils import unwrap_model
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoint_keys import unwrap_checkpoint
from mmtinyvit.models.checkpoints import load_checkpoint
from mmtinyvit.models.weights import UnfilledError, fill_module, fill_part, pretrained_parts, timm_as_init_cfg
from mmtinyvit.store.files import FULL, sync_folder, write_atomically

from .hooks.start import RequireWeightsHook, fresh_parts, how_to_start_anew, starts_training

__all__ = ['CheckpointRunner']

# What resuming needs beside the weights. MMEngine goes on without the optimizer's state, at another rate.
TRAINING_STATE = ('meta', 'message_hub', 'optimizer', 'param_schedulers')


class CheckpointRunner(mmengine.runner.Runner):
    """MMEngine's runner, which a checkpoint fills completely, and whose own checkpoints are whole or not there.

    What of a model may start anew is named by :class:`.RequireWeightsHook`; without it, nothing may.
    """

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """As MMEngine; the files that a config names for timm's networks are read like all others."""
        return super().build_model(timm_as_init_cfg(model))

    def load_or_resume(self) -> None:
        """As MMEngine; and from the newest checkpoint, if a process was killed while it wrote ``last_checkpoint``.

        Raises:
            UserError: ``last_checkpoint`` names a file that is not there.
        """
        pointer = Path(self.work_dir, 'last_checkpoint')
        if self._resume and self._load_from is None and not self._has_loaded and pointer.is_file():
            named = pointer.read_text().strip()
            if '://' not in named and not Path(named).is_file():
                found = max(pointer.parent.glob('*.pth'), key=os.path.getmtime, default=None)
                if not named and found:  # MMEngine empties it before it writes; a checkpoint with its name is whole
                    self._load_from = str(found)
                    if is_main_process():
                        write_atomically(pointer, [str(found).encode()])
                    return super().load_or_resume()
                way_out = f'the newest there is {found}: --resume {found}' if found else (
                    'name a checkpoint: --resume FILE, or remove that file to start anew')
                raise UserError(f'{pointer} names the checkpoint {named!r}, which is not there; {way_out}.')
        super().load_or_resume()

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: list | None = None) -> dict:
        """Fill the model from a checkpoint.

        Args:
            filename: As for :func:`~mmtinyvit.models.checkpoints.load_checkpoint`.
            map_location: As of ``torch.load``.
            strict, revise_keys: MMEngine passes them. They change nothing: a checkpoint that does not fill the model is
                always refused, and what lies around its names is always taken off.

        Returns:
            dict: The checkpoint.

        Raises:
            UserError: It cannot be read, or does not fill the model, or holds no training that could go on.
        """
        checkpoint = load_checkpoint(filename, map_location)
        if self._resume:
            self._check_resumable(checkpoint, filename)
            checkpoint['meta'].pop('config', None)  # MMEngine would execute it
        model = unwrap_model(self.model)
        checkpoint['state_dict'] = unwrap_checkpoint(checkpoint['state_dict'], model.state_dict())
        if isinstance(self.model.module if is_model_wrapper(self.model) else self.model, BaseTTAModel):
            # tests the averages, which are the state_dict: a hook would exchange them for its copy of the wrapped model
            self._hooks = [hook for hook in self.hooks if not isinstance(hook, EMAHook)]
        averaging = [hook for hook in self.hooks if isinstance(hook, EMAHook)]
        for hook in self.hooks:
            if hook not in averaging:
                hook.after_load_checkpoint(self, checkpoint)
        if not any(isinstance(hook, RequireWeightsHook) for hook in self.hooks):
            with self._naming_what_may_be_fresh():
                fill_module(model, checkpoint['state_dict'], filename, fresh_parts(self))
        if starts_training(self):  # from the averages, which are the state_dict; the others may have another head
            checkpoint.pop('ema_state_dict', None)
        for hook in averaging:
            hook.after_load_checkpoint(self, checkpoint)
            if 'ema_state_dict' in checkpoint:  # it has exchanged the averages with what they are of
                model.load_state_dict(checkpoint['state_dict'], strict=False)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def _init_model_weights(self) -> None:
        """As MMEngine; then each part whose ``init_cfg`` names a checkpoint is filled, or the checkpoint is refused.

        Backbones of this library have done it themselves; some of mmdet and mmseg rename the tensors on their own.
        """
        super()._init_model_weights()
        if self._resume:
            return
        fresh = next((hook.fresh for hook in self.hooks if isinstance(hook, RequireWeightsHook)), ())
        for place, part, settings in pretrained_parts(unwrap_model(self.model)):
            if part.init_weights.__module__.startswith(('mmengine.', 'mmpretrain.')):
                own = [name.removeprefix(place) for name in fresh if name.startswith((place, '*'))]
                with self._naming_what_may_be_fresh(place):
                    fill_part(part, settings['checkpoint'], settings.get('prefix'), own)

    @contextmanager
    def _naming_what_may_be_fresh(self, place: str = '') -> Iterator[None]:
        try:
            yield
        except UnfilledError as error:
            if not starts_training(self):
                raise
            raise UserError(f'{error} {how_to_start_anew(error, place)}') from error

    def _check_resumable(self, checkpoint: dict, filename: str) -> None:
        needed = [name for name in TRAINING_STATE if self.param_schedulers is not None or name != 'param_schedulers']
        missing = [name for name in needed if name not in checkpoint] or [
            f'meta.{name}' for name in ('epoch', 'iter') if name not in checkpoint['meta']]
        if missing:
            raise UserError(f'{filename} holds no training that could go on, as it lacks {missing[0]}: resume from a '
                            'checkpoint that the training itself wrote, such as epoch_1.pth, or start anew from these '
                            'weights with --cfg-options load_from= in the place of --resume.')

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """As MMEngine, but a local file is written under another name, flushed to the disk, and then gets its own.

        Raises:
            UserError: The disk is full.
        """
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path, part = Path(out_dir, filename), Path(out_dir, f'{filename}.part')
        try:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)
            if is_main_process():
                with open(part, 'rb') as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
                sync_folder(path.parent)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise UserError(f'The disk is full: {path} cannot be written ({error.strerror}): make room; then the '
                            'training goes on from its last checkpoint, with --resume.') from error
        finally:
            if is_main_process():
                part.unlink(missing_ok=True)

    def register_default_hooks(self, hooks: dict[str, Hook | dict] | None = None) -> None:
        """As MMEngine, with :class:`~mmtinyvit.engine.hooks.CheckpointHook` in the place of its own."""
        hooks = dict(hooks or {})
        saving = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
        if isinstance(saving, dict) and saving.get('type') in ('CheckpointHook', 'mmengine.CheckpointHook',
                                                               CheckpointHook):
            hooks['checkpoint'] = dict(saving, type='mmtinyvit.CheckpointHook')
        super().register_default_hooks(hooks)
