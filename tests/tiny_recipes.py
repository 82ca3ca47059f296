"""Recipes in small: a few noise images where the configs look for theirs, small networks, and one epoch."""
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from tiny_networks import shrink_tinymim

from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.store import LogitStore

TINY = dict(embed_dims=(16, 16, 32, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
SYNSETS = ('n01440764', 'n01443537')
DEIT_TYPES = ('mmtinyvit.DeiT', 'mmtinyvit.DistilledDeiT')


def load_recipe(path: Path) -> Config:
    """Read a config; its default scope is set."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)  # formatting takes seconds a run


def saves(cfg: Config) -> bool:
    """Whether it writes a store."""
    return cfg.get('test_cfg', {}).get('type') == 'mmtinyvit.SaveLogitsLoop'


def transform(pipeline: list[dict], name: str) -> dict | None:
    return next((each for each in pipeline if each['type'] == f'mmtinyvit.{name}'), None)


def innermost(dataset: dict) -> dict:
    """The dataset inside wrappers such as ``RepeatedViews``."""
    return innermost(dataset['dataset']) if 'dataset' in dataset else dataset


def store_read_by(cfg: Config) -> str | None:
    pipeline = innermost((cfg.get('train_dataloader') or {}).get('dataset', {})).get('pipeline', [])
    return cfg.store if transform(pipeline, 'LoadTeacherLogits') else None


def caches(cfg: Config) -> bool:
    return any(hook['type'] == 'mmtinyvit.CacheLogitsHook' for hook in cfg.get('custom_hooks', []))


def write_world(root: Path) -> Path:
    """The folders that the configs name, with six noise images each."""
    folders = [*(f'data/imagenet/{split}/{name}' for split in ('train', 'val') for name in SYNSETS),
               *(f'data/imagenet21k/{name}' for name in SYNSETS),
               *(f'data/imagenette96/{split}/{name}' for split in ('train', 'val') for name in SYNSETS),
               *(f'work_dirs/demo/digits/{split}/{digit}' for split in ('train', 'val') for digit in range(10))]
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(1 if 'digits' in folder else 3):
            pixels = rng.integers(0, 256, (32, 32, 3) if 'digits' in folder else (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f'{number}.png')
    index_images(root / 'data/imagenet21k', root / 'data/imagenet21k/images.index')
    return root


def on_a_few_images(cfg: Config, work_dir: Path) -> Config:
    """The config, changed to small networks, small views, one epoch and the images of :func:`write_world`.

    A network that is not of this library's package is for the caller to make small.
    """
    cfg.work_dir = str(work_dir)
    in_tinymim = Path(cfg.filename).parent.name == 'tinymim'
    for loader in filter(None, (cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False, drop_last=False)
        dataset = innermost(loader.dataset)
        dataset.pop('indices', None)
        if dataset.type == 'mmtinyvit.IndexedImages':
            dataset.num_classes = None
        elif dataset.type == 'mmtinyvit.ImageNet':
            dataset.metainfo = dict(classes=SYNSETS)
        for augment in (t for t in dataset.pipeline if t['type'] == 'mmtinyvit.SeededAugment'):
            augment['transforms'][0].update(scale=32)
        if cfg.model.get('backbone', {}).get('type') in DEIT_TYPES:
            dataset.pipeline.insert(-1, dict(type='Resize', scale=(32, 32)))
    for evaluator in filter(None, (cfg.get('val_evaluator'), cfg.get('test_evaluator'))):
        if isinstance(evaluator, dict) and evaluator.type == 'mmtinyvit.MappedAccuracy':
            evaluator.topk = (1, )  # of two classes
    if cfg.model.get('type') == 'mmtinyvit.DeiTDistillClassifier' and cfg.get('train_dataloader'):
        two_of_all = dict(type='mmtinyvit.MapLabel', index=list(range(len(SYNSETS))))
        innermost(cfg.train_dataloader.dataset).pipeline.insert(0, two_of_all)
    backbone = cfg.model.get('backbone', {})
    if in_tinymim:
        shrink_tinymim(cfg, work_dir)
    elif backbone.get('type') == 'mmtinyvit.TinyViT':
        backbone.arch = TINY
        backbone.pop('window_sizes', None)
        cfg.model.head.in_channels = 32
    elif backbone.get('type') == 'mmtinyvit.CLIPVisionTower':
        backbone.update(img_size=32, patch_size=16, width=32, depth=1, num_heads=1, out_channels=32)
        cfg.model.head.in_channels = 32
    elif backbone.get('type') in DEIT_TYPES:
        backbone.update(img_size=32, arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48))
        cfg.model.head.in_channels = 24
    for member in [cfg.model, *cfg.model.get('teachers', [])]:
        if member.type == 'TimmClassifier' and member.get('pretrained'):
            member.update(model_name='test_resnet', pretrained=False)
    if caches(cfg):  # a teacher and a store of its own
        cfg.store = str(work_dir / 'store')
        cfg.custom_hooks[0].update(num_canaries=1, random_teacher=True, teacher_model=dict(
            type='TimmClassifier', model_name='test_resnet', pretrained=False, data_preprocessor=dict()))
    if 'teacher' in cfg.model and not in_tinymim:
        small = dict(type='mmpretrain.TimmClassifier', model_name='test_resnet')
        cfg.model.teacher = dict(model=small, checkpoint=str(work_dir / 'teacher.pth'))
        torch.save(MODELS.build(small).state_dict(), work_dir / 'teacher.pth')
    if saves(cfg):
        cfg.test_cfg.views = (0, 1)
        cfg.random_teacher = True
    elif cfg.get('train_cfg'):
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    return cfg


def save_store(cfg: Config, work_dir: Path) -> LogitStore:
    """Let the teacher of a recipe write its store, unless it is there."""
    cfg = on_a_few_images(cfg, work_dir)
    if not Path(cfg.store).exists():
        torch.manual_seed(0)
        Runner.from_cfg(cfg).test()
    return LogitStore(cfg.store)
