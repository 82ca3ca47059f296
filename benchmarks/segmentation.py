"""Does a segmenter learn? Each kind of recipe learns a few real photos by heart, is judged by mIoU, and draws them.

    MMTINYVIT_DATA=... python benchmarks/segmentation.py
    MMTINYVIT_DATA=... python benchmarks/segmentation.py --photos 3 --iterations 60 --side 96    # a short form

Photos of coco_semseg; recipes of configs/segmentation/ and projects/topformer/ with narrow networks, from random
weights, through tools/train.py and tools/test.py. What it was trained on it is tested on: this shows that gradients,
targets and masks are right, and nothing about new photos. The drawings, truth beside prediction, are in
work_dirs/segmentation/RECIPE/.
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
OUT = Path('work_dirs/segmentation')
RECIPES = {
    'Semantic FPN, TinyViT': 'configs/segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k.py',
    'UPerNet, TinyViT': 'configs/segmentation/upernet_tiny_vit_5m_windows512_160k_ade20k.py',
    'UPerNet, ViT': 'configs/segmentation/upernet_tinymim_tiny_160k_ade20k.py',
    'TopFormer': 'projects/topformer/configs/topformer_tiny_160k_ade20k.py',
}
DIMS = [16, 32, 48, 64]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', type=int, default=8, help='photos (default: 8)')
    parser.add_argument('--iterations', type=int, default=300, help='steps of four photos each (default: 300)')
    parser.add_argument('--side', type=int, default=128, help='side of the photos in pixels (default: 128)')
    return parser.parse_args()


def configure(path: Path, data: Path, args: argparse.Namespace) -> Config:
    """The recipe, made small."""
    cfg = Config.fromfile(path)
    classes = [each['name'] for each in json.loads((data / 'classes.json').read_text())]
    load, truth = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    resize, pack = dict(type='Resize', scale=(args.side, args.side)), dict(type='PackSegInputs')
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type='BaseSegDataset', data_root=str(data), metainfo=dict(classes=classes), indices=args.photos,
            data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
            pipeline=[load, resize, truth, pack])
    cfg.train_dataloader.batch_size = min(4, args.photos)
    cfg.train_dataloader.dataset.pipeline = [load, truth, resize, dict(type='RandomFlip', prob=0.5), pack]
    shrink(cfg.model, args.side)
    for head in (cfg.model.decode_head, cfg.model.get('auxiliary_head') or {}):
        head.update(num_classes=len(classes), dropout_ratio=0.)
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.))
    cfg.pop('auto_scale_lr', None)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=args.iterations // 10),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=args.iterations // 10, end=args.iterations, eta_min=0)
    ]
    cfg.train_cfg.update(max_iters=args.iterations, val_interval=args.iterations)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=args.iterations)
    cfg.default_hooks.logger.interval = 10
    cfg.log_processor.window_size = 10
    return cfg


def shrink(model: dict, side: int) -> None:
    """A few channels, random weights, the whole photo at once."""
    model.data_preprocessor.size, model.test_cfg = (side, side), dict(mode='whole')
    model.backbone.init_cfg, model.backbone.drop_path_rate = None, 0.
    kind = model.backbone.type.removeprefix('mmtinyvit.')
    if kind == 'TopFormer':
        model.backbone.arch = dict(channels=DIMS, num_last_blocks=2, num_heads=4, out_channels=64)
        model.decode_head.update(in_channels=[64] * 3, channels=64)
        return
    dims = DIMS
    if kind == 'DenseViT':
        dims = [48] * 4
        model.backbone.update(
            arch=dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=192), img_size=side,
            out_indices=(0, 1, 2, 3))
        model.neck.embed_dim = 48
    else:
        model.backbone.update(
            arch=dict(embed_dims=DIMS, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2)), norm_eval=False)
    if model.decode_head.type == 'FPNHead':
        model.neck.update(in_channels=dims, out_channels=64)
        model.decode_head.update(in_channels=[64] * 4, channels=64)
    else:
        model.decode_head.update(in_channels=dims, channels=64)
        model.auxiliary_head.update(in_channels=dims[2], channels=64)


def run(tool: str, *args: str | Path) -> None:
    """One of the tools, whose words are shown if it fails."""
    command = [sys.executable, ROOT / f'tools/{tool}.py', *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f'tools/{tool}.py failed: {result.stderr.strip()[-2000:]}')


def learn(path: Path, data: Path, args: argparse.Namespace) -> dict:
    """Train, test and draw; the metrics, the losses and the seconds."""
    work = OUT / path.stem / time.strftime('%Y%m%d_%H%M%S')
    work.mkdir(parents=True)
    configure(path, data, args).dump(work / 'config.py')
    start = time.perf_counter()
    run('train', work / 'config.py', '--work-dir', work)
    seconds = time.perf_counter() - start
    losses = [line['loss'] for file in work.glob('*/vis_data/scalars.json')
              for line in map(json.loads, file.read_text().splitlines()) if 'loss' in line]
    run('test', work / 'config.py', work / f'iter_{args.iterations}.pth', '--work-dir', work / 'test', '--out',
        work / 'metrics.json', '--cfg-options', 'default_hooks.visualization.draw=True')
    metrics = json.loads((work / 'metrics.json').read_text())
    return dict(metrics, first_loss=losses[0], last_loss=losses[-1], seconds=round(seconds),
                drawings=len(list(work.glob('test/*/vis_data/vis_image/*'))), folder=str(work))


def main() -> None:
    args = parse_args()
    if not os.environ.get('MMTINYVIT_DATA'):
        raise UserError('benchmarks/segmentation.py needs MMTINYVIT_DATA, the folder with coco_semseg/.')
    data = Path(os.environ['MMTINYVIT_DATA'], 'coco_semseg').resolve()
    results = {title: learn(ROOT / path, data, args) for title, path in RECIPES.items()}
    table = Table('', 'mIoU', 'pixels right', 'loss at first', 'at last', 'seconds', caption=machine(),
                  title=f'{args.photos} photos by heart, {args.iterations} iterations, {args.side} pixels')
    for title, found in results.items():
        table.add_row(title, f'{found["mIoU"]:.1f}', f'{found["aAcc"]:.1f} %', f'{found["first_loss"]:.2f}',
                      f'{found["last_loss"]:.3f}', str(found['seconds']))
    Console().print(table)
    facts = vars(args) | dict(machine=machine(), results=results)
    (OUT / 'summary.json').write_text(json.dumps(facts, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
