"""From a command line to a runner: the flags, the config, the checks before anything starts, and the runner itself."""
import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from torch import distributed, nn

from mmtinyvit.config import read_config, saves_logits
from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import build_teacher

from .command import add_config_options

__all__ = ['TeacherRunner', 'add_common_flags', 'build_dataset', 'build_runner', 'check_data', 'load_config',
           'use_checkpoint']


# ---------------------------------------------------------------- configs
def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every command with a config has, as in mmpretrain."""
    parser.add_argument('config', help='config file, or its path within the configs of the installed library')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG)')
    add_config_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` names and merge its flags: those of :func:`add_common_flags`, and ``checkpoint``.

    Raises:
        UserError: There is no such checkpoint; or as :func:`~mmtinyvit.config.read_config`.
    """
    flags = vars(args)
    os.environ.setdefault('LOCAL_RANK', str(flags.get('local_rank', 0)))
    cfg = read_config(args.config)
    cfg.launcher = flags.get('launcher', 'none')
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = flags.get('work_dir') or cfg.get('work_dir') or str(Path('work_dirs') / Path(cfg.filename).stem)
    use_checkpoint(cfg, flags.get('checkpoint'))
    return cfg


def use_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Load the weights from ``checkpoint``, if one is given. Raises :class:`UserError` if there is no such file."""
    if checkpoint is None:
        return
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise UserError(f'There is no checkpoint {checkpoint}: check the path.')
    cfg.load_from = checkpoint


# ---------------------------------------------------------------- data
def check_data(cfg: Config, *loaders: str) -> None:
    """Raises :class:`UserError` if a folder or file that the named loaders read is missing or empty.

    The sentence says which, and where to get it if the dataset's ``source`` or the config's ``data_source`` does.
    """
    for loader in loaders:
        dataset = (cfg.get(loader) or {}).get('dataset')
        while dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        if not dataset:
            continue
        root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or ''
        prefixes = prefix.values() if isinstance(prefix, dict) else [prefix]
        for value in ('', dataset.get('ann_file') or '', *prefixes):
            path = Path(root, value)
            if '://' in f'{root}{value}' or _has_data(path):
                continue
            fault = 'is empty' if path.exists() else 'does not exist'
            source = dataset.get('source') or cfg.get('data_source')
            if value and value == dataset.get('ann_file') and dataset['type'] == 'mmtinyvit.IndexedImages':
                source = f'write it with `python tools/dataset_converters/index_images.py {root} --check`.'
            source = source or 'put the data there, or set data_root in the config.'
            raise UserError(f'{loader} needs {path}, which {fault}: {source}')


def _has_data(path: Path) -> bool:
    if path.is_dir():
        return any(files for _, _, files in os.walk(path, followlinks=True))
    return path.exists() and path.stat().st_size > 0


def build_dataset(cfg: Config) -> Any:
    """The dataset whose views a store holds: of the loader that saves, or else of the training.

    Raises :class:`UserError` if the config has no such loader, or the data are not on this machine.
    """
    name = 'test_dataloader' if saves_logits(cfg) else 'train_dataloader'
    if not cfg.get(name):
        raise UserError('The config has no train_dataloader and does not save logits: give the config of the teacher '
                        'or of a student.')
    check_data(cfg, name)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return DATASETS.build(cfg[name].dataset)


# ---------------------------------------------------------------- runners
class TeacherRunner(Runner):
    """A runner whose model is a teacher: with all of its weights from ``load_from``, where set, and never trained."""

    def build_model(self, model: dict) -> nn.Module:
        checkpoint, self._load_from = self._load_from, None
        return build_teacher(model, checkpoint)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        return model.to(get_device())  # DistributedDataParallel refuses a model without gradients


def build_runner(cfg: Config, kind: type[Runner] = Runner) -> Runner:
    """The runner of a config, of class ``kind``, once its work folder is known to be writable.

    MMEngine's own start of ``launcher='pytorch'`` needs a GPU; without one, the processes are joined by gloo here.

    Raises :class:`UserError` if the work folder cannot be written to, or a teacher's checkpoint does not fill it.
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
            store, rank, world_size = next(distributed.rendezvous('env://'))
            # torchrun hands the same store to all its attempts: gloo would look for the processes of an earlier one
            attempt = distributed.PrefixStore(f'attempt_{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store)
            distributed.init_process_group('gloo', store=attempt, rank=rank, world_size=world_size)
        cfg.sync_bn = None  # torch has it for GPUs alone
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper names a GPU
            cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                         find_unused_parameters=cfg.get('find_unused_parameters', False))
    return kind.from_cfg(cfg)
