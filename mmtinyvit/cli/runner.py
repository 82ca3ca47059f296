"""From a command line to a runner: the flags, the config, the checks before anything starts, and the runner itself."""
import argparse
import os
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub.constants
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import BaseLoop, Runner, TestLoop, ValLoop
from mmpretrain.evaluation import Accuracy
from timm.utils import unwrap_model
from torch import distributed, nn
from torch.utils.data import DataLoader

from mmtinyvit.config import read_config, saves_logits
from mmtinyvit.engine.label_check import check_outputs
from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import build_teacher

from .command import add_config_options

__all__ = ['TeacherRunner', 'ToolRunner', 'add_common_flags', 'build_dataset', 'build_runner', 'check_data',
           'load_config', 'use_checkpoint']

PARTS = ({'train_dataloader', 'train_cfg', 'optim_wrapper'}, {'val_dataloader', 'val_cfg', 'val_evaluator'},
         {'test_dataloader', 'test_cfg', 'test_evaluator'})  # each whole or absent
LAUNCHERS = dict(pytorch=('RANK', 'torchrun, as tools/dist_train.sh does'), slurm=('SLURM_PROCID', 'srun'),
                 mpi=('OMPI_COMM_WORLD_RANK', 'mpirun'))  # what each sets


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
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = flags.get('launcher', 'none')
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

    The sentence says which, and where to get it if the dataset's ``source`` or the config's ``data_source`` does. The
    first of the loaders must be there.
    """
    if not cfg.get(loaders[0]):
        raise UserError(f'{cfg.filename} has no {loaders[0]}: name a config that has one, or add it.')
    for loader in loaders:
        if cfg.get(loader) and not (isinstance(cfg[loader], dict) and cfg[loader].get('dataset')):
            raise UserError(f'{loader} of {cfg.filename} has no dataset: add it.')
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
                source = f'write it with `python tools/dataset_converters/index_images.py {root or prefix} --check`.'
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
class ToolRunner(Runner):
    """MMEngine's runner, which says before the first batch what would stop, or spoil, the run in its midst."""

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """As MMEngine's; without workers, nothing that only they have. Refuses a loader without a single batch."""
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            idle = [name for name in ('persistent_workers', 'prefetch_factor') if dataloader.get(name)]
            if idle:
                print_log(f'A loader has num_workers=0, so that its {" and ".join(idle)} mean nothing.', 'current')
            dataloader = {name: value for name, value in dataloader.items() if name not in idle}
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        if hasattr(loader.dataset, '__len__') and not len(loader):
            raise UserError(f'The {len(loader.dataset)} samples of {type(loader.dataset).__name__} are fewer than one '
                            f'batch of {loader.batch_size}, and drop_last leaves none: set a smaller batch_size, or '
                            'drop_last=False.')
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        loop = super().build_train_loop(loop)
        if getattr(unwrap_model(self.model), 'reads_labels', True):
            check_outputs(loop.dataloader.dataset, self._outputs())
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return self._checked(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return self._checked(super().build_test_loop(loop))

    def build_evaluator(self, evaluator: Evaluator | dict | list) -> Evaluator:
        """As MMEngine's; refuses an accuracy among more classes than there are, which would end the first epoch."""
        evaluator = super().build_evaluator(evaluator)
        outputs = self._outputs()
        for metric in evaluator.metrics:
            if isinstance(metric, Accuracy) and not all(
                    isinstance(k, int) and 1 <= k <= (outputs or k) for k in metric.topk):
                raise UserError(f'Accuracy cannot tell the top {", ".join(map(str, metric.topk))} of '
                                f'{outputs or "the"} classes: set topk of the evaluator to numbers from 1 to the '
                                'number of classes.')
        return evaluator

    def _checked(self, loop: BaseLoop) -> BaseLoop:
        if isinstance(loop, ValLoop | TestLoop) and any(isinstance(m, Accuracy) for m in loop.evaluator.metrics):
            check_outputs(loop.dataloader.dataset, self._outputs())
        return loop

    def _outputs(self) -> int | None:
        """The classes of a classifier; None if the model is another kind of network."""
        model = unwrap_model(self.model)
        classes = getattr(getattr(model, 'head', None), 'num_classes', None)
        return classes or getattr(getattr(model, 'model', None), 'num_classes', None)


class TeacherRunner(ToolRunner):
    """A runner whose model is a teacher: with all of its weights from ``load_from``, where set, and never trained."""

    def build_model(self, model: dict) -> nn.Module:
        checkpoint, self._load_from = self._load_from, None
        return build_teacher(model, checkpoint)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        return model.to(get_device())  # DistributedDataParallel refuses a model without gradients


def _notice_offline(cfg: Config) -> None:
    """Without a network, have timm's weights looked for in the cache alone: the hub would try for most of a minute."""
    def wanted(value: Any) -> bool:
        if isinstance(value, dict):
            return value.get('pretrained') is True or any(map(wanted, value.values()))
        return isinstance(value, list | tuple) and any(map(wanted, value))

    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname
    if not wanted([*cfg.values()]) or getproxies():
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def build_runner(cfg: Config, kind: type[ToolRunner] = ToolRunner) -> ToolRunner:
    """The runner of a config, of class ``kind``, once its work folder is known to be writable.

    MMEngine's own start of ``launcher='pytorch'`` needs a GPU; without one, the processes are joined by gloo here.

    Raises :class:`UserError` if the config lacks something, the launcher was not started, the work folder cannot be
    written to, or a teacher's checkpoint does not fill it.
    """
    for names in ({'model'}, *PARTS):
        missing = {name for name in names if cfg.get(name) is None}
        if missing and (missing != names or names == {'model'}):
            rest = f', but {", ".join(sorted(names - missing))}' if names - missing else ''
            raise UserError(f'{cfg.filename} has no {" and no ".join(sorted(missing))}{rest}: add it'
                            f'{", or leave all of them out" if rest else ""}.')
    variable, starter = LAUNCHERS.get(cfg.get('launcher'), (None, None))
    if variable and variable not in os.environ:
        raise UserError(f'--launcher {cfg.launcher} is for processes that {starter.partition(",")[0]} starts, and this '
                        f'is none: start the command with {starter}, or leave --launcher out.')
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cfg.work_dir):
            pass
    except OSError as error:
        raise UserError(f'The work folder {cfg.work_dir} cannot be written to ({error.strerror}): choose another '
                        '--work-dir.') from error
    _notice_offline(cfg)
    if cfg.get('launcher') == 'pytorch' and get_device() == 'cpu':
        if not distributed.is_initialized():
            distributed.init_process_group('gloo')
        cfg.sync_bn = None  # torch has it for GPUs alone
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper names a GPU
            cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                         find_unused_parameters=cfg.get('find_unused_parameters', False))
    return kind.from_cfg(cfg)
