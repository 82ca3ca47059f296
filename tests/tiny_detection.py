"""Detection in small: a COCO folder of coloured rectangles, and recipes on it with few regions and small images."""
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmtinyvit.paths import config_root

CATEGORIES = [dict(id=1, name='person'), dict(id=3, name='car'), dict(id=18, name='dog')]  # of COCO's 80
COLOURS = {1: (230, 60, 40), 3: (40, 90, 230), 18: (240, 220, 60)}
TINY = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))


def write_rectangles(root: Path, num_train: int = 4, num_val: int = 2, seed: int = 0) -> Path:
    """A folder in COCO's layout: photos of 60 to 90 pixels with one to three rectangles, boxes and polygons."""
    rng = np.random.default_rng(seed)
    for split, count in (('train2017', num_train), ('val2017', num_val)):
        images, annotations = [], []
        (root / split).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(60, 91, 2).tolist()
            pixels = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
            for _ in range(rng.integers(1, 4)):
                w, h = rng.integers(36, 50, 2).tolist()
                x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
                category = int(rng.choice([category['id'] for category in CATEGORIES]))
                pixels[y:y + h, x:x + w] = COLOURS[category]
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=number + 1, category_id=category, bbox=[x, y, w, h], area=w * h,
                    iscrowd=0, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
            images.append(dict(id=number + 1, file_name=f'{number:03d}.png', height=height, width=width))
            Image.fromarray(pixels).save(root / split / f'{number:03d}.png')
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(dict(
            images=images, annotations=annotations, categories=CATEGORIES)))
    return root


def write_classifier(path: Path, arch: str | dict, seed: int = 0) -> Path:
    """A checkpoint of a classifier with this backbone, as a distillation leaves it."""
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    model = MODELS.build(dict(type='mmtinyvit.TinyViT', arch=arch))
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # some start at 0, and hide the gradient of what is before them
            torch.nn.init.uniform_(module.weight, .5, 1.)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    channels = model.embed_dims[-1]
    state |= {'head.fc.weight': torch.randn(21841, channels), 'head.fc.bias': torch.zeros(21841)}
    torch.save(dict(state_dict=state, meta=dict(epoch=90)), path)
    return path


def few_photos(data: Path, out: Path, count: int) -> Path:
    """The annotations of the first ``count`` photos of COCO with one to three large objects."""
    content = json.loads((data / 'annotations/instances_train2017.json').read_text())
    objects: dict[int, list] = {}
    for each in content['annotations']:
        objects.setdefault(each['image_id'], []).append(each)
    chosen = [image for image in content['images'] if 1 <= len(objects.get(image['id'], ())) <= 3 and all(
        each['area'] > .04 * image['width'] * image['height'] and not each['iscrowd'] for each in objects[image['id']])]
    content['images'] = chosen[:count]
    content['annotations'] = [each for image in content['images'] for each in objects[image['id']]]
    out.write_text(json.dumps(content))
    return out


def detector(name: str, data_root: Path, work_dir: Path, checkpoint: Path | None = None, arch: str | dict | None = None,
             side: int = 96) -> Config:
    """A recipe on small images: the same parts, few regions, narrow heads, no drop path and no worker processes."""
    cfg = Config.fromfile(config_root() / f'{name}.py')
    cfg = Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)
    cfg.work_dir = str(work_dir)
    cfg.visualizer.pop('name')  # a name is shared by all runs of a process, and with it the folder for the curves
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{data_root}/'
        loader.dataset.pipeline = [shrink(step, side) for step in loader.dataset.pipeline]
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{data_root}/annotations/instances_val2017.json'
    if arch is not None:
        cfg.model.backbone.arch = arch
        cfg.model.neck.in_channels = list(arch['embed_dims'])
    cfg.model.backbone.drop_path_rate = 0.
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    if checkpoint is None:
        cfg.model.backbone.pop('init_cfg')
    for settings in (cfg.model.train_cfg.get('rpn_proposal'), cfg.model.test_cfg.get('rpn')):
        if settings:
            settings.update(nms_pre=100, max_per_img=50)
    roi_head = cfg.model.get('roi_head') or dict(bbox_head=[])
    for head in roi_head['bbox_head'] if isinstance(roi_head['bbox_head'], list) else [roi_head['bbox_head']]:
        head.fc_out_channels = 32
    if 'mask_head' in roi_head:
        roi_head.mask_head.conv_out_channels = 16
    rcnn = cfg.model.train_cfg.get('rcnn') or []
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 16
    cfg.train_cfg.max_epochs = 1
    return cfg


def shrink(step: dict, side: int) -> dict:
    """A transform of the recipe at about a tenth of the size."""
    step = dict(step)
    if step['type'] == 'RandomChoiceResize':
        step['scales'] = [(side, 2 * side), (side + 32, 2 * side)]
    elif step['type'] == 'Resize':
        step['scale'] = (2 * side, side)
    elif step['type'] == 'RandomCrop':
        step['crop_size'] = (side // 2, side // 2)
    elif step['type'] == 'RandomChoice':
        step['transforms'] = [[shrink(each, side) for each in choice] for choice in step['transforms']]
    return step
