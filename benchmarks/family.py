"""TinyViT, TopFormer, Mobile-Former and MobileViT of similar size, from the store and from labels, on real photos.

    MMTINYVIT_DATA=... python benchmarks/family.py            # hours on 2 cores
    MMTINYVIT_DATA=... python benchmarks/family.py --quick    # minutes: that it runs, not how well

MobileNetV2 saves its top 10 of 1,000 classes for four views of the 7,500 training photos of Imagenette at 96 pixels.
Each network is trained twice with one recipe, that of configs/imagenette: from the store without labels, and
from all labels without the store. Prints a Markdown table and writes work_dirs/family/summary.json. Interrupted, it
goes on where it was.
"""
import argparse
import json
import os
import sys
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from harness import compare, machine
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console

from mmtinyvit.apis.networks import count_macs, count_parameters
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.runner import build_runner
from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs/imagenette'
SIDE = 96
sys.path.append(str(ROOT))  # for projects/
GAP = dict(type='GlobalAveragePooling')
NETWORKS = {  # what differs from configs/imagenette/student.py
    'TinyViT, small': dict(),
    'TopFormer-T': dict(
        module='projects.topformer.topformer',
        backbone=dict(type='mmtinyvit.TopFormer', arch='tiny', pool_stride=1, inject=False),
        neck=[GAP, dict(type='ClsBatchNormNeck', input_features=208, affine=True, eps=1e-5)],
        head=dict(in_channels=208)),
    'Mobile-Former-52M, narrow head': dict(
        module='projects.mobile_former.mobile_former',
        backbone=dict(type='mmtinyvit.MobileFormer', arch='52m'),
        head=dict(type='mmtinyvit.MobileFormerClsHead', in_channels=96, token_dims=128, hidden_channels=256)),
    'MobileViT-XXS': dict(
        module='projects.mobilevit.mobilevit',
        backbone=dict(type='mmtinyvit.MobileViT', arch='xx_small'),
        neck=GAP,
        head=dict(in_channels=320),
        data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)),
}
RUNS = {'distill': 'from the store', 'labels_all': 'from labels'}


class Setting:
    """How much of everything, and where the results go."""

    def __init__(self, quick: bool, epochs: int | None) -> None:
        self.out = Path('work_dirs/family' + '_quick' * quick)
        self.views = 2 if quick else 4
        self.epochs = epochs or (2 if quick else 20)
        self.every = 50 if quick else 1  # of the photos
        self.batch_size = 30 if quick else 64
        self.quick = quick

    def read(self, name: str) -> Config:
        """A config of configs/imagenette on the photos of this setting, with its store."""
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        cfg = Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)
        cfg.experiment_name = f'{self.out.name}_{name}'
        if self.quick:
            for split, num in (('train', 7500), ('val', 2500), ('test', 7500 if name == 'save_logits' else 2500)):
                if cfg.get(f'{split}_dataloader'):
                    cfg[f'{split}_dataloader'].dataset.indices = list(range(0, num, self.every))
        return cfg


def save_store(setting: Setting, weights: Path) -> None:
    cfg = setting.read('save_logits')
    cfg.test_cfg.update(store=str(setting.out / 'store'), views=(0, setting.views))
    cfg.work_dir, cfg.load_from = str(setting.out / 'saving'), str(weights)
    build_runner(cfg, TeacherRunner).test()


def student(setting: Setting, name: str, run: str) -> Config:
    """The config of one training."""
    cfg, changes = setting.read(run), deepcopy(NETWORKS[name])
    if 'backbone' in changes:
        cfg.model.backbone = changes['backbone']
        import_module(changes['module'])
    cfg.model.neck = changes.get('neck')
    cfg.model.head.update(changes.get('head', {}))
    cfg.data_preprocessor.update(changes.get('data_preprocessor', {}))
    if run == 'distill':
        cfg.store = str(setting.out / 'store')
    else:
        cfg.custom_hooks[0].num_views = setting.views
    cfg.train_dataloader.update(batch_size=setting.batch_size)
    cfg.train_cfg.update(max_epochs=setting.epochs, val_interval=setting.epochs)
    cfg.param_scheduler[1].end = setting.epochs
    cfg.default_hooks.checkpoint.interval = max(setting.epochs // 4, 1)
    cfg.work_dir = str(setting.out / slug(name) / run)
    cfg.experiment_name = f'{setting.out.name}_{slug(name)}_{run}'
    cfg.resume = True
    return cfg


def slug(name: str) -> str:
    return name.split(',')[0].lower().replace('-', '_')


def train(setting: Setting, name: str, run: str) -> float:
    """Top-1 in percent at the end, out of ``result.json`` if the training has been finished before."""
    cfg = student(setting, name, run)
    result, settings = Path(cfg.work_dir, 'result.json'), dict(epochs=setting.epochs, views=setting.views)
    if result.exists():
        found = json.loads(result.read_text())
        top1 = found.pop('top1')
        if found != settings:
            raise UserError(f'{cfg.work_dir} holds a training with other settings ({found}): move it away.')
        return top1
    runner = build_runner(cfg)
    runner.train()
    top1 = MessageHub.get_current_instance().get_scalar('val/accuracy/top1').current()
    result.write_text(json.dumps(settings | dict(top1=top1)) + '\n')
    return top1


def costs(setting: Setting, repeats: int) -> dict[str, dict]:
    """Parameters, MACs and images per second of each network with 1,000 classes, at the size of the photos."""
    init_default_scope('mmpretrain')
    images, found, calls = torch.randn(32, 3, SIDE, SIDE), {}, {}
    for name in NETWORKS:
        cfg = student(setting, name, 'distill')
        model = MODELS.build(cfg.model)
        model.eval()
        found[name] = dict(parameters=count_parameters(model), macs=count_macs(model, (SIDE, SIDE)))
        calls[name] = torch.inference_mode()(lambda model=model: model(images))
    for name, times in compare(calls, repeats=repeats).items():
        found[name]['images_per_s'] = len(images) / times['median_s']
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='every 50th photo, 2 views, 2 epochs')
    parser.add_argument('--epochs', type=int, help='epochs over all photos (default: 20)')
    args = parser.parse_args()
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        raise UserError('benchmarks/family.py needs MMTINYVIT_DATA, the folder with imagenette96/ and '
                        'teacher_mobilenetv2/.')
    setting, console = Setting(args.quick, args.epochs), Console()
    rows = costs(setting, repeats=3 if args.quick else 15)
    save_store(setting, next(Path(data, 'teacher_mobilenetv2').glob('*.pth')))
    for name in NETWORKS:
        for run in RUNS:
            start = perf_counter()
            rows[name][run] = train(setting, name, run)
            console.print(f'{name}, {RUNS[run]}: {rows[name][run]:.1f} % after {perf_counter() - start:.0f} s')
    print(f'\n| network | parameters (M) | MACs at {SIDE} px (M) | images/s | top-1 {RUNS["distill"]} (%) | '
          f'top-1 {RUNS["labels_all"]} (%) |\n|---|---|---|---|---|---|')
    for name, row in rows.items():
        print(f'| {name} | {row["parameters"] / 1e6:.2f} | {row["macs"] / 1e6:.1f} | {row["images_per_s"]:.0f} | '
              f'{row["distill"]:.1f} | {row["labels_all"]:.1f} |')
    console.print(f'{setting.epochs} epochs over {7500 // setting.every} photos, {setting.views} views; {machine()}')
    summary = dict(epochs=setting.epochs, num_views=setting.views, rows=rows, machine=machine())
    (setting.out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
