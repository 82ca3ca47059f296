"""From a command line to a runner: the config, the checks before anything starts, and the runner itself."""
import argparse
import os
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub.constants
import matplotlib.pyplot as plt
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS, init_default_scope
from torch import distributed

from mmtinyvit.config import read_config, saves_logits
from mmtinyvit.engine.runner import Runner, TeacherRunner
from mmtinyvit.errors import UserError

__all__ = ['augment_test', 'build_dataset', 'build_runner', 'check_data', 'count_cores', 'draw_results', 'load_config',
           'use_checkpoint']

PARTS = ({'train_dataloader', 'train_cfg', 'optim_wrapper'}, {'val_dataloader', 'val_cfg', 'val_evaluator'},
         {'test_dataloader', 'test_cfg', 'test_evaluator'})  # each whole or absent
LAUNCHERS = dict(pytorch=('RANK', 'torchrun, as "torchrun --nproc_per_node N -m mmtinyvit ..."'),
                 slurm=('SLURM_PROCID', 'srun'), mpi=('OMPI_COMM_WORLD_RANK', 'mpirun'))  # what each sets
VISUALIZERS = dict(VisualizationHook='UniversalVisualizer', DetVisualizationHook='DetLocalVisualizer',
                   SegVisualizationHook='SegLocalVisualizer')
REPEATING = ('RepeatDataset', 'ClassBalancedDataset', 'RepeatedViews')  # wrappers that show an image several times
WITHOUT_WINDOWS = ('agg', 'cairo', 'pdf', 'pgf', 'ps', 'svg', 'template')  # of matplotlib
MERGING = dict(  # the predictions of several augmentations, by the library of the model
    mmpretrain=dict(type='AverageClsScoreTTA'),
    mmdet=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
    mmseg=dict(type='SegTTAModel'))
UNFLIPPED = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')  # mmdet's boxes


# ---------------------------------------------------------------- configs
def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` names and merge its flags.

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
        if cfg.get(loader) and not (isinstance(cfg[loader], dict) and isinstance(cfg[loader].get('dataset'), dict)):
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
                source = f'write it with "mmtinyvit index {root or prefix} --check".'
            source = source or 'put the data there, or set data_root in the config.'
            raise UserError(f'{loader} needs {path}, which {fault}: {source}')


def _has_data(path: Path) -> bool:
    if path.is_dir():
        return any(files for _, _, files in os.walk(path, followlinks=True))
    return path.exists() and path.stat().st_size > 0


def build_dataset(cfg: Config) -> Any:
    """The dataset whose views a store holds: of the loader that saves, or else of the training; each image once.

    Raises :class:`UserError` if the config has no such loader, or the data are not on this machine.
    """
    name = 'test_dataloader' if saves_logits(cfg) else 'train_dataloader'
    if not cfg.get(name):
        raise UserError('The config has no train_dataloader and does not save logits: give the config of the teacher '
                        'or of a student.')
    check_data(cfg, name)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = cfg[name].dataset
    while str(dataset.get('type')).rpartition('.')[2] in REPEATING:
        dataset = dataset.dataset
    return DATASETS.build(dataset)


# ---------------------------------------------------------------- tests
def draw_results(cfg: Config, show: bool, folder: str | None, interval: int, wait_time: float) -> None:
    """Have the predictions of a test drawn, by the hook of its library.

    Args:
        cfg: Of a classifier, or for mmdet or mmseg; its hook ``visualization`` is switched on.
        show: In windows.
        folder: Into files in this folder; for mmdet it lies within the folder of the run.
        interval: Every n-th image, of a classifier.
        wait_time: How many seconds a window stays.

    Raises:
        UserError: The config has no such hook, or nothing can be shown on this machine.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization') or dict(type='')
    kind = hook['type'].rpartition('.')[2]
    if kind not in VISUALIZERS:
        raise UserError(f'{cfg.filename} has no hook that draws: add visualization=dict(type='
                        "'mmtinyvit.VisualizationHook') to its default_hooks (for mmdet DetVisualizationHook, for "
                        'mmseg SegVisualizationHook).')
    if show and plt.get_backend().lower() in WITHOUT_WINDOWS:
        raise UserError('--show needs a display, and there is none: write files with --show-dir.')
    cfg.visualizer = cfg.get('visualizer') or dict(type=VISUALIZERS[kind])
    hook.update(show=show, wait_time=wait_time)
    if kind == 'VisualizationHook':
        hook.update(type='mmtinyvit.VisualizationHook', enable=True, out_dir=folder, interval=interval)
    elif kind == 'DetVisualizationHook':
        hook.update(draw=True, test_out_dir=folder)
    else:
        hook.update(draw=True)
        cfg.visualizer.setdefault('vis_backends', [dict(type='LocalVisBackend')])
        if folder:
            cfg.visualizer.update(save_dir=folder)


def augment_test(cfg: Config) -> None:
    """Test on each image and its mirror image, and merge what the model says; or as ``tta_pipeline`` and ``tta_model``.

    Raises:
        UserError: Predictions of this kind cannot be merged.
    """
    library = cfg.get('default_scope', 'mmpretrain')
    if library not in MERGING and not (cfg.get('tta_model') and cfg.get('tta_pipeline')):
        raise UserError(f'--tta knows no default for default_scope={library!r}: add tta_model and tta_pipeline to '
                        f'{cfg.filename}.')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'pipeline' not in dataset:
        raise UserError(f'--tta changes the pipeline of a test, and {dataset.type} has none of its own: test its parts '
                        'one by one.')
    pipeline = cfg.get('tta_pipeline')
    if not pipeline:  # labels are not mirrored: they are read behind the flip
        steps = [dict(step) for step in dataset.pipeline]
        first = next((i for i, step in enumerate(steps) if step['type'].endswith('LoadAnnotations')), len(steps) - 1)
        if library == 'mmdet':
            steps[-1].update(meta_keys=UNFLIPPED)
        flips = [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)]
        pipeline = [*steps[:first], dict(type='TestTimeAug', transforms=[flips, *([step] for step in steps[first:])])]
    merging = dict(cfg.get('tta_model') or MERGING[library])
    if merging['type'].endswith('DetTTAModel') and 'mask_head' in {*cfg.model, *(cfg.model.get('roi_head') or ())}:
        raise UserError(f'mmdet merges boxes and no masks, which {cfg.model.type} finds: leave --tta out.')
    # the model's own preprocessor comes before the config's, as without --tta
    cfg.model = merging | dict(module=cfg.model, data_preprocessor=cfg.model.get('data_preprocessor') or cfg.get(
        'data_preprocessor'))
    dataset.pipeline = pipeline


# ---------------------------------------------------------------- runners
def count_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _notice_offline(cfg: Config) -> None:
    """Without a network, have timm's weights looked for in the cache alone: the hub would try for most of a minute."""
    def wanted(value: Any) -> bool:
        if isinstance(value, dict):
            return value.get('pretrained') is True or any(map(wanted, value.values()))
        if isinstance(value, str):  # the architecture alone is fetched from there, too
            return value.startswith(('hf_hub:', 'hf-hub:'))
        return isinstance(value, list | tuple) and any(map(wanted, value))

    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname
    if not wanted([*cfg.values()]) or getproxies():
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def build_runner(cfg: Config, kind: type[Runner] = Runner) -> Runner:
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
            store, rank, world_size = next(distributed.rendezvous('env://'))
            # torchrun hands the same store to all its attempts: gloo would look for the processes of an earlier one
            attempt = distributed.PrefixStore(f'attempt_{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store)
            distributed.init_process_group('gloo', store=attempt, rank=rank, world_size=world_size)
        cfg.sync_bn = None  # torch has it for GPUs alone
        if cfg.get('model_wrapper_cfg') is None:  # the default wrapper names a GPU
            cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                                         find_unused_parameters=cfg.get('find_unused_parameters', False))
    if kind is not TeacherRunner:
        cfg.default_hooks = {'class_names': dict(type='mmtinyvit.ClassNamesHook')} | (cfg.get('default_hooks') or {})
    return kind.from_cfg(cfg)
