"""Configs from the command line: found, checked against the data on this machine, and merged with the flags."""
import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.device import get_device

from mmtinyvit.apis.detection import require_detection
from mmtinyvit.apis.segmentation import require_segmentation
from mmtinyvit.errors import UserError
from mmtinyvit.paths import config_root

__all__ = ['add_common_flags', 'check_data', 'load_config', 'merge_training_flags', 'read_config', 'use_checkpoint']

NEEDS = {'mmdet': require_detection, 'mmseg': require_segmentation}  # beyond what a config of mmpretrain needs


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every tool with a config has, as in mmpretrain."""
    parser.add_argument('config', help='config file, or its path within the configs of the installed library')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE',
                        help='override settings of the config, for example optim_wrapper.optimizer.lr=1e-3')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(name: str | Path) -> Config:
    """Read a config file, or one of the library's by its path within ``configs``.

    Raises:
        UserError: There is no such file, it is not a config, or it is one of mmdet or mmseg, whose models cannot be
            built here.
    """
    root = str(config_root().parent)
    if root not in sys.path:
        sys.path.append(root)  # for the custom_imports of projects/
    path = Path(name)
    if not path.is_file():
        inside = config_root().parent / path
        path = inside if inside.is_file() else config_root() / path
    if not path.is_file():
        raise UserError(f'There is no config {name}: give the path of a config file; those of the library are '
                        f'in {config_root()}.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        for library, require in NEEDS.items():
            if library in str(error):
                require(f'The config {path}')
        raise UserError(f'The config {path} cannot be read ({type(error).__name__}: {error}): correct it.') from error
    if cfg.get('default_scope') in NEEDS:
        NEEDS[cfg.default_scope](f'The config {path}')
    # the runner formats the config's text several times; without yapf that costs milliseconds instead of seconds
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` names and merge the common flags. Raises as :func:`read_config` does."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(cfg.filename).stem)
    return cfg


def use_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Load the weights from ``checkpoint``, if one is given.

    Raises:
        UserError: There is no such file.
    """
    if checkpoint is None:
        return
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise UserError(f'There is no checkpoint {checkpoint}: check the path.')
    cfg.load_from = checkpoint


def check_data(cfg: Config, *loaders: str) -> None:
    """Look whether the data of the named loaders are on this machine.

    Raises:
        UserError: A folder or file is missing or empty; says which, and where to get it if the config's ``data_source``
            does.
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
            fault = None if '://' in f'{root}{value}' else _absence(path)
            if fault:
                source = cfg.get('data_source', 'put the data there, or set data_root in the config.')
                raise UserError(f'{loader} needs {path}, which {fault}: {source}')


def _absence(path: Path) -> str | None:
    if not path.exists():
        return 'does not exist'
    if path.is_dir():
        empty = not any(files for _, _, files in os.walk(path, followlinks=True))
    else:
        empty = path.stat().st_size == 0
    return 'is empty' if empty else None


def merge_training_flags(cfg: Config, args: argparse.Namespace) -> None:
    """The flags of ``tools/train.py``, with mmpretrain's meaning."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if get_device() == 'cpu':
            raise UserError('--amp needs a GPU, and none is found here: train without it.')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
        if args.resume != 'auto':
            use_checkpoint(cfg, args.resume)
    use_checkpoint(cfg, cfg.get('load_from'))
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise UserError('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config.')
        cfg.auto_scale_lr.enable = True
