"""Runners that end with a sentence where MMEngine's end with a traceback, or go on with half a teacher."""
import tempfile
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from torch import distributed, nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import fill_module, read_state_dict

__all__ = ['build_runner', 'build_teacher', 'saving_loop']


def saving_loop(cfg: Config, name: str) -> ConfigDict:
    """The settings of the saving loop in a teacher's config.

    Args:
        cfg: The config.
        name: What to call it in the error.

    Raises:
        UserError: It saves nothing.
    """
    loop = cfg.get('test_cfg') or {}
    if loop.get('type') != 'mmtinyvit.SaveLogitsLoop':
        raise UserError(f'{name} does not save logits: its test_cfg must be '
                        "dict(type='mmtinyvit.SaveLogitsLoop', store=..., ...), as in configs/teachers/.")
    return loop


class _TeacherRunner(Runner):
    """A runner whose model is never trained: DistributedDataParallel, which refuses a frozen one, has no use here."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        return revert_sync_batchnorm(model.to(get_device()))


def build_runner(cfg: Config, kind: type[Runner] = Runner) -> Runner:
    """The runner of a config, once its work folder is known to be writable.

    MMEngine's own start of ``launcher='pytorch'`` needs a GPU; without one, the processes are joined by gloo here.

    Args:
        cfg: The config.
        kind: The class of the runner.

    Raises:
        UserError: The work folder cannot be written to.
    """
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cfg.work_dir):
            pass
    except OSError as error:
        raise UserError(f'The work folder {cfg.work_dir} cannot be written to ({error.strerror}): choose another '
                        '--work-dir.') from error
    if cfg.get('launcher') == 'pytorch' and get_device() == 'cpu':
        if not distributed.is_initialized():
            distributed.init_process_group('gloo')
        cfg.sync_bn = None  # torch has it for GPUs alone
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper names a GPU
            cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                         find_unused_parameters=cfg.get('find_unused_parameters', False))
    return kind.from_cfg(cfg)


def build_teacher(cfg: Config) -> Runner:
    """The runner of a teacher, with all of its weights from ``cfg.load_from``, if that is set.

    The model stays as it is in a job of several processes, so a teacher may be frozen altogether.

    Raises:
        UserError: The checkpoint is damaged, or another model's; or as :func:`build_runner`.
    """
    checkpoint, cfg.load_from = cfg.get('load_from'), None
    runner = build_runner(cfg, _TeacherRunner)
    if checkpoint:
        fill_module(runner.model, read_state_dict(checkpoint), checkpoint)
    return runner
