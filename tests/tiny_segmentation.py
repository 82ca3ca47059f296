"""Segmentation in small: folders of photos with masks, and recipes on them with narrow heads and small crops."""
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmtinyvit.paths import config_root

CLASSES = ('background', 'red', 'blue', 'yellow')
COLOURS = ((110, 110, 110), (230, 60, 40), (40, 90, 230), (240, 220, 60))
TINY = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
VIT = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)


def write_masks(root: Path, num_train: int = 4, num_val: int = 2, seed: int = 0) -> Path:
    """``images/`` and ``annotations/`` with ``train`` and ``val``: rectangles of three colours on a grey ground."""
    rng = np.random.default_rng(seed)
    for split, count in (('train', num_train), ('val', num_val)):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(70, 100, 2).tolist()
            mask = np.zeros((height, width), np.uint8)
            for label in rng.permutation(3)[:2] + 1:
                y, x = rng.integers(0, 40, 2).tolist()
                mask[y:y + 40, x:x + 40] = label
            pixels = np.array(COLOURS, np.uint8)[mask] + rng.integers(-20, 16, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f'images/{split}/{number:03d}.jpg')
            Image.fromarray(mask).save(root / f'annotations/{split}/{number:03d}.png')
    return root


def photo_classes(root: Path) -> tuple[str, ...]:
    """The names in the ``classes.json`` of real photos."""
    return tuple(each['name'] for each in json.loads((root / 'classes.json').read_text()))


def write_vit(path: Path, seed: int = 0) -> Path:
    """A checkpoint of TinyMIM with a small ViT: its student under ``backbone.``, and what is to be ignored."""
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    model = MODELS.build(dict(type='MAEViT', arch=VIT, img_size=96))
    state = {f'backbone.{name}': torch.randn_like(value) * .1 for name, value in model.state_dict().items()}
    torch.save(dict(state_dict=state | {'teacher.head.weight': torch.randn(3, 3)}, meta=dict(epoch=300)), path)
    return path


def segmenter(path: Path | str, data_root: Path, work_dir: Path, classes: tuple[str, ...] = CLASSES,
              checkpoint: Path | None = None, side: int = 64) -> Config:
    """A recipe on small crops of other photos: the same parts, narrow, without drop path and worker processes.

    Args:
        path: The config file, or its name below ``configs/`` without ending.
        data_root: Folder with ``images/`` and ``annotations/``, each with ``train/`` and ``val/``.
        work_dir: Where it writes.
        classes: Of the masks.
        checkpoint: What the backbone starts from, if anything.
        side: Of the crops, and of the short side of the photos.
    """
    path = Path(path) if Path(path).suffix else config_root() / f'{path}.py'
    cfg = Config.fromfile(path)
    cfg = Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)
    cfg.work_dir = str(work_dir)
    cfg.visualizer.pop('name')  # a name is shared by all runs of a process, and with it the folder for the curves
    for split, folder in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type='BaseSegDataset', data_root=str(data_root), metainfo=dict(classes=classes),
            data_prefix=dict(img_path=f'images/{folder}', seg_map_path=f'annotations/{folder}'),
            pipeline=[shrink(step, side) for step in loader.dataset.pipeline])
    model, backbone = cfg.model, cfg.model.backbone
    model.data_preprocessor.size = (side, side)
    if model.test_cfg.mode == 'slide':
        model.test_cfg.update(crop_size=(side, side), stride=(side * 2 // 3, ) * 2)
    narrow(backbone, model, side)
    backbone.init_cfg.checkpoint = str(checkpoint)
    if checkpoint is None:
        backbone.pop('init_cfg')
    for head in (model.decode_head, model.get('auxiliary_head') or {}):
        head.update(num_classes=len(classes))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.pop('auto_scale_lr', None)
    return cfg


def narrow(backbone: dict, model: dict, side: int) -> None:
    """Backbone, neck and heads with a few channels each; a project's are for the caller to make small."""
    dims = [VIT['embed_dims']] * 4 if backbone.type.endswith('DenseViT') else list(TINY['embed_dims'])
    if backbone.type.endswith('DenseViT'):
        backbone.update(arch=VIT, img_size=side, out_indices=(0, 1, 2, 3))
        model.neck.embed_dim = VIT['embed_dims']
    elif backbone.type.endswith('TinyViT'):
        backbone.arch = TINY
    backbone.drop_path_rate = 0.
    if model.decode_head.type == 'FPNHead':
        model.neck.update(in_channels=dims, out_channels=16)
        model.decode_head.update(in_channels=[16] * 4, channels=16)
    elif model.decode_head.type == 'UPerHead':
        model.decode_head.update(in_channels=dims, channels=16)
        model.auxiliary_head.update(in_channels=dims[2], channels=16)


def shrink(step: dict, side: int) -> dict:
    """A transform of the recipe at the size of the crop, for masks whose first class counts."""
    step = dict(step)
    if step['type'] in ('RandomResize', 'Resize'):
        step['scale'] = (4 * side, side)
    elif step['type'] == 'RandomCrop':
        step['crop_size'] = (side, side)
    elif step['type'] == 'LoadAnnotations':
        step['reduce_zero_label'] = False
    return step
