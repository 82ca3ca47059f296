"""Does a detector learn? Mask R-CNN learns a few real photos by heart, boxes and masks.

    MMTINYVIT_DATA=... python benchmarks/detection.py
    MMTINYVIT_DATA=... python benchmarks/detection.py --images 4 --iterations 150 --side 128    # a short form

Photos of coco_mini_ccby with one to four large objects; configs/detection/mask_rcnn_tiny_vit_5m_fpn_1x_coco.py with a
narrow TinyViT and narrow heads, from random weights, through tools/train.py and CocoMetric. What it was trained on it
is tested on: this shows that gradients, targets, boxes and masks are right, and nothing about new photos.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from harness import machine
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/detection')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=8, help='photos (default: 8)')
    parser.add_argument('--iterations', type=int, default=600, help='steps of four photos each (default: 600)')
    parser.add_argument('--side', type=int, default=192, help='short side in pixels (default: 192)')
    return parser.parse_args()


def choose(data: Path, count: int) -> Path:
    """Write the annotations of the first ``count`` photos with one to four objects, each a thirtieth of it or more."""
    content = json.loads((data / 'annotations/instances_train2017.json').read_text())
    objects: dict[int, list] = {}
    for each in content['annotations']:
        objects.setdefault(each['image_id'], []).append(each)
    content['images'] = [image for image in content['images'] if 1 <= len(objects.get(image['id'], ())) <= 4 and all(
        30 * each['area'] > image['width'] * image['height'] and not each['iscrowd']
        for each in objects[image['id']])][:count]
    content['annotations'] = [each for image in content['images'] for each in objects[image['id']]]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / 'photos.json').write_text(json.dumps(content))
    return OUT / 'photos.json'


def configure(data: Path, photos: Path, args: argparse.Namespace) -> Config:
    """The recipe, made small."""
    cfg = Config.fromfile(ROOT / 'configs/detection/mask_rcnn_tiny_vit_5m_fpn_1x_coco.py')
    resize = dict(type='Resize', scale=(2 * args.side, args.side), keep_ratio=True)
    annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f'{data}/', ann_file=str(photos.resolve()), data_prefix=dict(img='train2017/'))
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'), annotations, resize, dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs')
    ]
    cfg.train_dataloader.update(batch_size=min(4, args.images), batch_sampler=None,
                                sampler=dict(type='InfiniteSampler', shuffle=True))
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.pipeline[1] = resize
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(photos.resolve())
    cfg.model.backbone.update(
        arch=dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2)), drop_path_rate=0.,
        norm_eval=False)
    cfg.model.backbone.pop('init_cfg')
    cfg.model.neck.update(in_channels=[16, 32, 48, 64], out_channels=64)
    cfg.model.rpn_head.update(in_channels=64, feat_channels=64)
    heads = cfg.model.roi_head
    heads.bbox_head.update(in_channels=64, fc_out_channels=256)
    heads.mask_head.update(in_channels=64, conv_out_channels=64, num_convs=2)
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 64
    cfg.model.train_cfg.rcnn.sampler.num = 64
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=300, max_per_img=100)
    cfg.model.test_cfg.rpn.update(nms_pre=300, max_per_img=100)
    cfg.optim_wrapper.optimizer.update(lr=1e-3, weight_decay=0.)
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.
    cfg.auto_scale_lr.enable = False
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=30),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=args.iterations, eta_min=0)
    ]
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=args.iterations, val_interval=args.iterations)
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=args.iterations)
    cfg.default_hooks.logger.interval = 10
    cfg.log_processor.window_size = 10
    return cfg


def main() -> None:
    args = parse_args()
    if not os.environ.get('MMTINYVIT_DATA'):
        raise UserError('benchmarks/detection.py needs MMTINYVIT_DATA, the folder with coco_mini_ccby/.')
    data = Path(os.environ['MMTINYVIT_DATA'], 'coco_mini_ccby').resolve()
    photos = choose(data, args.images)
    configure(data, photos, args).dump(OUT / 'config.py')
    start = time.perf_counter()
    work = OUT / time.strftime('%Y%m%d_%H%M%S')
    result = subprocess.run([sys.executable, ROOT / 'tools/train.py', OUT / 'config.py', '--work-dir', work],
                            capture_output=True, text=True)
    if result.returncode:
        raise UserError(f'tools/train.py failed: {result.stderr.strip()[-2000:]}')
    seconds = time.perf_counter() - start
    lines = [json.loads(line) for path in work.glob('*/vis_data/scalars.json')
             for line in path.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    scores = next(line for line in lines if 'coco/bbox_mAP' in line)
    table = Table('', 'AP', 'AP at IoU 0.5', 'AP at IoU 0.75', caption=machine(),
                  title=f'{args.images} photos by heart, {args.iterations} iterations, {seconds:.0f} s')
    for kind, title in (('bbox', 'boxes'), ('segm', 'masks')):
        table.add_row(title, *(f'{100 * scores[f"coco/{kind}_{key}"]:.1f}' for key in ('mAP', 'mAP_50', 'mAP_75')))
    console = Console()
    console.print(table)
    console.print(f'loss: {losses[0]:.2f} at first, {losses[-1]:.3f} at last', highlight=False)
    facts = vars(args) | dict(seconds=round(seconds), machine=machine(), first_loss=losses[0], last_loss=losses[-1])
    scores = {key: value for key, value in scores.items() if key.startswith('coco/')}
    (OUT / 'summary.json').write_text(json.dumps(facts | scores, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
