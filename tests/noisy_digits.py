"""Handwriting with wrong labels: 797 digits for a teacher, 600 with half of their labels at random, 400 to test on."""
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image
from tiny_flow import runtime

NORM = dict(mean=[80.] * 3, std=[90.] * 3, to_rgb=True)
CLASSES = 10


def write_noisy_digits(root: Path, seed: int, noise: float = 0.5) -> Path:
    """scikit-learn's digits as PNG files of 8 x 8 pixels, and ``teacher.txt``, ``student.txt`` and ``test.txt``.

    Each line names a file and a label. In ``student.txt`` a share of ``noise`` of the labels is drawn anew, uniformly.
    """
    from sklearn.datasets import load_digits
    digits, rng = load_digits(), np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    labels = digits.target.copy()
    student = order[797:1397]
    wrong = rng.permutation(student)[:round(noise * len(student))]
    labels[wrong] = rng.integers(0, CLASSES, len(wrong))
    (root / 'images').mkdir(parents=True)
    for i, image in enumerate(digits.images):
        Image.fromarray((image * 15.9).astype(np.uint8)).save(root / 'images' / f'{i:04d}.png')
    for name, chosen, wanted in (('teacher', order[:797], digits.target), ('student', student, labels),
                                 ('test', order[1397:], digits.target)):
        (root / f'{name}.txt').write_text(''.join(f'{i:04d}.png {wanted[i]}\n' for i in chosen))
    return root


def noisy_config(root: Path, work_dir: Path, split: str, model: dict, epochs: int, seed: int, batch_size: int = 40,
                 rate: float = 2e-3) -> Config:
    """A training on ``split``, tested once at its end."""
    def loader(name: str, size: int, shuffle: bool) -> dict:
        pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')]
        return dict(
            batch_size=size, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=shuffle),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='mmtinyvit.ImageFolder', data_prefix=str(root / 'images'), ann_file=str(
                root / f'{name}.txt'), metainfo=dict(classes=[str(c) for c in range(CLASSES)]), pipeline=pipeline))

    return Config(runtime(work_dir) | dict(
        experiment_name=work_dir.name, model=model, data_preprocessor=NORM | dict(num_classes=CLASSES),
        randomness=dict(seed=seed),
        train_dataloader=loader(split, batch_size, True), val_dataloader=loader('test', 400, False),
        val_evaluator=dict(type='Accuracy'), val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=rate, weight_decay=0.05)),
        param_scheduler=[dict(type='CosineAnnealingLR', end=epochs, by_epoch=True, convert_to_iter_based=True)],
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=epochs),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=100),
                           checkpoint=dict(type='CheckpointHook', interval=epochs))), format_python_code=False)


def noisy_teacher() -> dict:
    """A small convolutional network."""
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(NORM),
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, style='pytorch'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64))


def noisy_student(teacher: Path | None, distill: dict | None) -> dict:
    """A DeiT of three layers on patches of 2 x 2 pixels; without ``distill`` it learns from the labels alone."""
    asked = dict(teacher=dict(model=noisy_teacher(), checkpoint=str(teacher)), distill=distill)
    return dict(
        type='mmtinyvit.DeiTDistillClassifier',
        backbone=dict(type='mmtinyvit.DistilledDeiT', img_size=8, patch_size=2, arch=dict(
            embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)),
        head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=CLASSES, in_channels=48),
        alpha=0.5 if distill else 0.) | (asked if distill else {})
