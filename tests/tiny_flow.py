"""The whole flow at 32 pixels: a few images, a small teacher, configs, and a hook that writes down what a model saw."""
import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, MODELS
from mmengine.visualization import Visualizer
from mmpretrain.models import ImageClassifier
from PIL import Image
from timm.utils import unwrap_model

TOPK, CLASSES = 5, 12
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
BGR_MEAN, BGR_STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]

# The augmentation of ImageNet-21K distillation, and ColorJitter beside it.
VIEW_TRANSFORMS = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.08, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
         magnitude_std=0.5, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=BGR_MEAN, fill_std=BGR_STD),
]


def forget_runs() -> None:
    """Let MMEngine make new loggers and curves for the next run of the same second."""
    kinds = [MMLogger, MessageHub, Visualizer]
    for kind in kinds:
        kind._instance_dict.clear()
        kinds += kind.__subclasses__()  # each has instances of its own


def write_photos(root: Path, num: int, seed: int = 0) -> Path:
    """``num`` PNG files of smooth random colours, 36 to 60 pixels wide and high, in three class folders."""
    rng = np.random.default_rng(seed)
    for i in range(num):
        low = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 6), 3)).astype(np.uint8)
        size = rng.integers(36, 61, 2).tolist()
        path = root / f'class_{i % 3}' / f'photo_{i:03d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(low).resize(size, Image.Resampling.BICUBIC).save(path)
    return root


def view_pipeline(root: Path, store: Path | None = None, transforms: Sequence[dict] = VIEW_TRANSFORMS,
                  base_seed: int = 7, **augment) -> list[dict]:
    """Load, replay, perhaps read the store, pack."""
    replay = dict(type='mmtinyvit.SeededAugment', transforms=list(transforms), base_seed=base_seed, key_root=str(root))
    read = [dict(type='mmtinyvit.LoadTeacherLogits', store=str(store))] if store else []
    return [dict(type='mmtinyvit.LoadImage'), replay | augment, *read, dict(type='mmtinyvit.PackViewInputs')]


def photo_dataset(root: Path, store: Path | None = None, **pipeline) -> dict:
    """The config of a dataset of views."""
    return dict(type='mmtinyvit.ImageFolder', data_prefix=str(root), pipeline=view_pipeline(root, store, **pipeline))


def labelled_loader(photos) -> dict:
    """For a validation or test: the photos, whose three classes are the first of the teacher's."""
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=32),
                dict(type='mmtinyvit.MapLabel', index=[0, 1, 2]), dict(type='PackInputs')]
    return dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos) | dict(pipeline=pipeline))


def runtime(work_dir: Path) -> dict:
    """What every run here shares."""
    return dict(
        default_scope='mmpretrain', work_dir=str(work_dir), log_level='INFO', randomness=dict(seed=0),
        custom_imports=dict(imports=['tiny_flow']), launcher='none',
        env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)))


def saving(root: Path, store: Path, work_dir: Path, checkpoint: Path | None = None, model: dict | None = None,
           workers: int = 0, pipeline: dict | None = None, **loop) -> Config:
    """The config of a teacher that saves: two views, five of twelve classes, four samples to a shard."""
    cfg = runtime(work_dir) | dict(
        model=model or teacher(), data_preprocessor=dict(NORM), test_evaluator=dict(type='Accuracy'),
        test_dataloader=dict(batch_size=3, num_workers=workers, dataset=photo_dataset(root, **pipeline or {})),
        test_cfg=dict(type='mmtinyvit.SaveLogitsLoop', store=str(store), views=(0, 2), topk=TOPK,
                      samples_per_shard=4) | loop)
    if checkpoint:
        cfg['load_from'] = str(checkpoint)
    return Config(cfg, format_python_code=False)  # formatting takes seconds a run


def teacher() -> dict:
    """A small ResNet of mmpretrain."""
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, style='pytorch'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64))


@MODELS.register_module()
class FrozenClassifier(ImageClassifier):
    """A classifier of which no parameter takes a gradient."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)


def student(num_classes: int = CLASSES, **model) -> dict:
    """The smallest TinyViT."""
    arch = dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
    return dict(
        type='mmtinyvit.DistillClassifier',
        backbone=dict(type='mmtinyvit.TinyViT', arch=arch),
        head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=16)) | model


def distilling(root: Path, store: Path, work_dir: Path, epochs: int = 2, batch_size: int = 6, workers: int = 0,
               model: dict | None = None, hook: dict | None = None, loader: dict | None = None,
               sampler: dict | None = None, **pipeline) -> Config:
    """The config of a student's training."""
    return Config(runtime(work_dir) | dict(
        model=model or student(), data_preprocessor=dict(NORM),
        train_dataloader=dict(
            batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0,
            sampler=sampler or dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'),
            dataset=photo_dataset(root, store, **pipeline)) | (loader or {}),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='mmtinyvit.SparseLogitDistillHook') | (hook or {}), dict(type='RecordInputs')]),
        format_python_code=False)


def digest(image: torch.Tensor) -> str:
    """The pixels of one image in 16 hexadecimal digits."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).hexdigest()


@HOOKS.register_module()
class RecordInputs(Hook):
    """Append ``[epoch, view, key, digest]`` to ``inputs_RANK.jsonl`` for every image that the model trains on."""

    def before_train(self, runner) -> None:
        def note(module, args, kwargs) -> None:
            if kwargs['mode'] != 'loss':  # the loss asks the model for its logits
                return
            with open(Path(runner.work_dir, f'inputs_{runner.rank}.jsonl'), 'a') as file:
                for image, sample in zip(kwargs['inputs'], kwargs['data_samples'], strict=True):
                    file.write(json.dumps([runner.epoch, sample.view, sample.sample_key, digest(image)]) + '\n')

        model = unwrap_model(runner.model)
        self.handle = model.register_forward_pre_hook(note, with_kwargs=True)

    def after_train(self, runner) -> None:
        self.handle.remove()


def recorded(work_dir: Path, from_line: int = 0) -> list[list]:
    """What :class:`RecordInputs` wrote, all ranks."""
    return [json.loads(line) for file in sorted(Path(work_dir).glob('inputs_*.jsonl'))
            for line in file.read_text().splitlines()[from_line:]]


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a store but the lock."""
    return {str(file.relative_to(path)): file.read_bytes()
            for file in sorted(Path(path).rglob('*')) if file.is_file() and file.name != '.lock'}


@HOOKS.register_module()
class KillAt(Hook):
    """End the process before an iteration, as ``kill -9`` would."""
    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if runner.iter == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class KillRankOnce(Hook):
    """End rank 1 in mid-epoch, as ``kill -9`` would, the first time that it gets there."""

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        killed = Path(runner.work_dir, 'killed')
        if runner.rank == 1 and runner.epoch == 1 and batch_idx == 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class RecordLosses(Hook):
    """Append the loss of each iteration, to the last bit, to ``losses_RANK.txt``."""

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        with open(Path(runner.work_dir, f'losses_{runner.rank}.txt'), 'a') as file:
            file.write(float(outputs['loss']).hex() + '\n')


def losses(work_dir: Path) -> list[float]:
    """What :class:`RecordLosses` wrote, all ranks."""
    return [float.fromhex(line) for file in sorted(Path(work_dir).glob('losses_*.txt'))
            for line in file.read_text().splitlines()]


def scalars(work_dir: Path) -> list[dict]:
    """What MMEngine logged, line by line, all runs in this folder."""
    return [json.loads(line) for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()]
