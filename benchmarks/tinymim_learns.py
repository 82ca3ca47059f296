"""What does a small network learn from a masked autoencoder, and by which loss? On handwriting, and on real photos.

    python benchmarks/tinymim_learns.py [--data digits] [--seeds 0 1] [--only relation scratch]
    MMTINYVIT_DATA=... python benchmarks/tinymim_learns.py --data imagenette --seeds 0

A MAE is trained without labels. A smaller student is distilled from it by each loss, from a random teacher as a
control, or not at all, and then finetuned on a few labels and tested on other images. Digits: 1,297 images to learn
from, ten labels of each digit. Imagenette: 7,500 photos at 96 pixels, 75 labels of each class. Everything runs through
MMEngine's Runner. Prints a table and writes summary.json; interrupted, it goes on where it was.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from harness import machine
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root

LOSSES = {
    'relation': 'mmtinyvit.RelationDistillationLoss',
    'feature': 'mmtinyvit.FeatureDistillationLoss',
    'class token': 'mmtinyvit.ClassTokenDistillationLoss',
}
RUNS = ['relation', 'feature', 'class token', 'relation, random teacher', 'scratch', 'TinyViT relation',
        'TinyViT relation, random teacher', 'TinyViT scratch']


@dataclass(frozen=True)
class Setting:
    """Images, networks and lengths of a comparison; ``labels`` of each class, lengths in batches."""
    size: int
    patch: int
    labels: int
    teacher: dict
    block: int
    student: dict
    tiny_vit: dict
    flip_prob: float
    teacher_steps: int
    steps: int
    finetuning_steps: int
    images: Path = Path()  # train/ and val/, a folder per class
    out: Path = Path()
    seed: int = 0


DIGITS = Setting(
    size=32, patch=8, labels=10, flip_prob=0., teacher_steps=1000, steps=600, finetuning_steps=100, block=3,
    teacher=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256),
    student=dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192),
    tiny_vit=dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 3, 4), window_sizes=(7, 4, 2, 2)))
IMAGENETTE = Setting(
    size=96, patch=12, labels=75, flip_prob=0.5, teacher_steps=6000, steps=3000, finetuning_steps=600, block=5,
    teacher=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    student=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
    tiny_vit=dict(embed_dims=(32, 64, 96, 160), depths=(1, 1, 3, 1), num_heads=(1, 2, 3, 5), window_sizes=(7, 6, 6, 3)))


def vit(setting: Setting, arch: dict, kind: str = 'VisionTransformer', last_heads: int | None = None, **more) -> dict:
    heads, layers = arch['num_heads'], arch['num_layers']
    layer_cfgs = [*[dict(num_heads=heads)] * (layers - 1), dict(num_heads=last_heads or heads)]
    return dict(type=kind, arch=arch, img_size=setting.size, patch_size=setting.patch, layer_cfgs=layer_cfgs) | more


def pipeline(setting: Setting, jitter: bool = False) -> list[dict]:
    """Crops and flips, and for TinyMIM the pair of which the student's has other contrasts."""
    transforms = [dict(type='mmtinyvit.RandomResizedCrop', scale=setting.size, crop_ratio_range=(0.6, 1.0)),
                  dict(type='RandomFlip', prob=setting.flip_prob, direction='horizontal')]
    if jitter:
        student = [dict(type='ColorJitter', brightness=0.4, contrast=0.4)]
        transforms.append(dict(type='MultiView', num_views=[1, 1], transforms=[[], student]))
    return [dict(type='mmtinyvit.LoadImage'),
            dict(type='mmtinyvit.SeededAugment', transforms=transforms, base_seed=setting.seed),
            dict(type='mmtinyvit.PackViewInputs')]


def loader(folder: Path, batch: int, transforms: list[dict], shuffle: bool = True) -> dict:
    return dict(batch_size=batch, drop_last=shuffle, num_workers=0, collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=shuffle),
                dataset=dict(type='mmtinyvit.ImageFolder', data_root=str(folder), pipeline=transforms))


def train(setting: Setting, name: str, model: dict, steps: int, rate: float, load_from: Path | None = None,
          labels: bool = False, jitter: bool = False) -> Path:
    """Train for ``steps`` batches, unless it has been done; returns the folder. With ``labels``, test too."""
    out = setting.out / name
    if (out / 'result.json').is_file():
        return out
    folder, batch = (setting.out / 'labelled', 50) if labels else (setting.images / 'train', 64)
    epochs = max(1, steps // (sum(1 for _ in folder.glob('*/*')) // batch))
    cfg = dict(
        default_scope='mmpretrain', work_dir=str(out), log_level='WARNING', randomness=dict(seed=setting.seed),
        model=model, load_from=load_from and str(load_from / 'last.pth'),
        data_preprocessor=dict(type='ClsDataPreprocessor' if labels else 'SelfSupDataPreprocessor', mean=[127.5] * 3,
                               std=[127.5] * 3),
        train_dataloader=loader(folder, batch, pipeline(setting, jitter)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=rate, betas=(0.9, 0.95), weight_decay=0.05),
                           clip_grad=dict(max_norm=5.)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-3, end=steps // 10, by_epoch=False),
            dict(type='CosineAnnealingLR', begin=steps // 10, end=steps, by_epoch=False)],
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=epochs),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=max(1, steps // 4)),
                           checkpoint=dict(type='CheckpointHook', interval=epochs)),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook')], experiment_name=name.replace(' ', '_'))
    if labels:
        test = [dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')]
        cfg |= dict(val_cfg=dict(), val_evaluator=dict(type='Accuracy'),
                    val_dataloader=loader(setting.images / 'val', 250, test, shuffle=False))
    start = time.perf_counter()
    runner = Runner.from_cfg(Config(cfg, format_python_code=False))
    runner.train()
    torch.save(runner.model.state_dict(), out / 'last.pth')
    for checkpoint in out.glob('epoch_*.pth'):
        checkpoint.unlink()
    result = {key: buffer.current() for key, buffer in runner.message_hub.log_scalars.items()
              if key.startswith(('val/accuracy', 'train/loss'))}
    (out / 'result.json').write_text(json.dumps(result | dict(seconds=time.perf_counter() - start)))
    return out


def mae_model(setting: Setting) -> dict:
    """The teacher: mmpretrain's MAE."""
    decoder = dict(type='MAEPretrainDecoder', patch_size=setting.patch, num_patches=(setting.size // setting.patch)**2,
                   embed_dim=setting.teacher['embed_dims'], decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4)
    head = dict(type='MAEPretrainHead', patch_size=setting.patch,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'))
    return dict(type='MAE', backbone=vit(setting, setting.teacher, 'MAEViT', mask_ratio=0.6), neck=decoder, head=head)


def student_model(setting: Setting, loss: str, student: dict, teacher: dict, checkpoint: str, block: int,
                  heads: int | None = None) -> dict:
    """A ViT that learns from a block of a teacher.

    Args:
        setting: Of the images.
        loss: Of :data:`LOSSES`.
        student, teacher: Widths and depths.
        checkpoint: The teacher's weights.
        block: Of the teacher, from 1.
        heads: Of a teacher that was such a student: those of its last block, which the student's gets too.
    """
    losses = dict(type=LOSSES[loss])
    if loss != 'relation':
        losses |= dict(student_dims=student['embed_dims'], teacher_dims=teacher['embed_dims'])
    backbone = vit(setting, student, 'MAEViT', last_heads=heads or teacher['num_heads'])
    return dict(type='mmtinyvit.TinyMIM', backbone=backbone, losses=[losses], teacher=dict(
        backbone=vit(setting, teacher, last_heads=heads), checkpoint=checkpoint, block=block))


def classifier_model(backbone: dict, width: int) -> dict:
    """A classifier of ten classes on a backbone with so many channels."""
    return dict(type='ImageClassifier', backbone=backbone, head=dict(
        type='LinearClsHead', num_classes=10, loss=dict(type='CrossEntropyLoss'), in_channels=width))


def plain_vit(setting: Setting, arch: dict) -> dict:
    """The ViT as a classifier takes it: the mean of its last tokens."""
    return vit(setting, arch, out_type='avg_featmap', final_norm=False)


def mae(setting: Setting) -> Path:
    """Train the teacher."""
    return train(setting, 'mae', mae_model(setting), setting.teacher_steps, 2e-3)


def random_teacher(setting: Setting) -> Path:
    """A folder with weights that nobody trained."""
    folder = setting.out / 'random'
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1000 + setting.seed)
    init_default_scope('mmpretrain')
    model = MODELS.build(vit(setting, setting.teacher, 'MAEViT'))
    model.init_weights()
    torch.save(model.state_dict(), folder / 'last.pth')
    return folder


def accuracy(setting: Setting, name: str) -> float:
    """Distil as ``name`` says, finetune, and return the accuracy in percent."""
    tiny = dict(type='mmtinyvit.TinyViT', arch=setting.tiny_vit) if name.startswith('TinyViT') else None
    begin = None
    if 'scratch' not in name:
        source = random_teacher(setting) if 'random' in name else mae(setting)
        model = student_model(setting, name.removeprefix('TinyViT ').split(',')[0], setting.student, setting.teacher,
                              str(source / 'last.pth'), setting.block)
        if tiny:
            stages = dict(stages=(2, 3)) if setting.size == 32 else {}  # stage 4 of 32 pixels is a single token
            model |= dict(backbone=tiny, **stages)
        begin = train(setting, name, model, setting.steps, 2e-3, jitter=True)
    model = classifier_model(tiny, setting.tiny_vit['embed_dims'][-1]) if tiny else classifier_model(
        plain_vit(setting, setting.student), setting.student['embed_dims'])
    out = train(setting, f'{name}, finetuned for {setting.finetuning_steps} steps', model, setting.finetuning_steps,
                5e-4, begin, labels=True)
    return json.loads((out / 'result.json').read_text())['val/accuracy/top1']


def prepare(setting: Setting) -> None:
    """The first training images of each class, in a folder of their own."""
    for folder in sorted((setting.images / 'train').iterdir()):
        target = setting.out / 'labelled' / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for image in sorted(folder.iterdir())[:setting.labels]:
            shutil.copy(image, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', choices=['digits', 'imagenette'], default='digits')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1])
    for name in ('teacher-steps', 'steps', 'finetuning-steps'):
        parser.add_argument(f'--{name}', type=int, help='batches; by default as long as the data ask for')
    parser.add_argument('--only', nargs='+', choices=RUNS, default=RUNS, metavar='RUN', help=f'some of {RUNS}')
    parser.add_argument('--out', type=Path, help='folder (default: work_dirs/tinymim_DATA)')
    args = parser.parse_args()
    out = args.out or Path(f'work_dirs/tinymim_{args.data}')
    images = out / 'images' if args.data == 'digits' else Path(os.environ.get('MMTINYVIT_DATA', ''), 'imagenette96')
    setting = replace(DIGITS if args.data == 'digits' else IMAGENETTE, images=images)
    lengths = dict(teacher_steps=args.teacher_steps, steps=args.steps, finetuning_steps=args.finetuning_steps)
    setting = replace(setting, **{name: steps for name, steps in lengths.items() if steps})
    if args.data == 'digits':
        tool = mim_root() / 'tools/dataset_converters/digits.py'
        subprocess.run([sys.executable, tool, images, '--size', str(setting.size)], check=True)
    elif not images.is_dir():
        raise UserError('benchmarks/tinymim_learns.py --data imagenette needs MMTINYVIT_DATA, the folder with '
                        'imagenette96/.')
    top1: dict[str, list[float]] = {}
    for seed in args.seeds:
        each = replace(setting, out=out / f'seed_{seed}', seed=seed)
        prepare(each)
        for name in args.only:
            top1.setdefault(name, []).append(accuracy(each, name))
    title = f'{args.data}: {setting.finetuning_steps} steps with {setting.labels} labels a class, top-1 (%)'
    table = Table('student', *(f'seed {seed}' for seed in args.seeds), 'mean', title=title, caption=machine())
    for name, values in top1.items():
        table.add_row(name, *(f'{value:.1f}' for value in values), f'{statistics.mean(values):.1f}')
    Console().print(table)
    summary = dict(top1=top1, seeds=args.seeds, teacher_steps=setting.teacher_steps, steps=setting.steps,
                   finetuning_steps=setting.finetuning_steps, machine=machine())
    (out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main, 'Interrupted: run it again to go on.')
