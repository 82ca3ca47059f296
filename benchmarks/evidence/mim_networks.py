"""Networks and images of the claim about TinyMIM: a MAE, its students, and classifiers that start from these."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import set_random_seed

__all__ = ['LOSSES', 'SETTINGS', 'Setting', 'classifier', 'loader', 'mae', 'pipeline', 'plain_vit', 'student_of',
           'tiny_vit', 'write_random_vit']

LOSSES = {
    'relation': 'mmtinyvit.RelationDistillationLoss',
    'feature': 'mmtinyvit.FeatureDistillationLoss',
    'class token': 'mmtinyvit.ClassTokenDistillationLoss',
}


@dataclass(frozen=True)
class Setting:
    """One kind of images, and what is trained on them.

    Args:
        size, patch: Pixels.
        flip_prob: Of the images.
        teacher, student, small: Widths and depths of ViTs; ``small`` is the student's own student.
        block: Of the teacher that is learned from, from 1.
        other_blocks: That are tried beside it.
        lengths: Batches of the MAE, of the distillation, and of the finetuning.
        labels: The share of the images that has labels.
        tiny_vit: A TinyViT that learns from the same teacher; None leaves it out.
        stages: Of the TinyViT that learn.
    """
    size: int
    patch: int
    flip_prob: float
    teacher: dict
    student: dict
    small: dict
    block: int
    other_blocks: tuple[int, ...]
    lengths: tuple[int, int, int]
    labels: float
    tiny_vit: dict | None = None
    stages: tuple[int, ...] = ()


SETTINGS = dict(
    digits=Setting(
        size=32, patch=8, flip_prob=0., block=3, other_blocks=(1, 2, 4), lengths=(1000, 600, 100), labels=0.08,
        teacher=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256),
        student=dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192),
        small=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=128),
        tiny_vit=dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 3, 4),
                      window_sizes=(7, 4, 2, 2)),
        stages=(2, 3)),  # stage 4 of 32 pixels is a single token
    photos=Setting(
        size=96, patch=12, flip_prob=0.5, block=5, other_blocks=(3, 6), lengths=(1500, 750, 150), labels=0.1,
        teacher=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        student=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        small=dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=192)))


# ---------------------------------------------------------------- images
def pipeline(setting: Setting, seed: int, jitter: bool = False) -> list[dict]:
    """Crops and flips, and for TinyMIM the pair of which the student's has other contrasts."""
    transforms: list[dict[str, Any]] = [
        dict(type='mmtinyvit.RandomResizedCrop', scale=setting.size, crop_ratio_range=(0.6, 1.0)),
        dict(type='RandomFlip', prob=setting.flip_prob, direction='horizontal')]
    if jitter:
        student = [dict(type='ColorJitter', brightness=0.4, contrast=0.4)]
        transforms.append(dict(type='MultiView', num_views=[1, 1], transforms=[[], student]))
    return [dict(type='mmtinyvit.LoadImage'),
            dict(type='mmtinyvit.SeededAugment', transforms=transforms, base_seed=seed),
            dict(type='mmtinyvit.PackViewInputs')]


def loader(folder: str, batch: int, transforms: list[dict], shuffle: bool = True) -> dict:
    return dict(batch_size=batch, drop_last=shuffle, num_workers=0, collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=shuffle),
                dataset=dict(type='mmtinyvit.ImageFolder', data_root=folder, pipeline=transforms))


# ---------------------------------------------------------------- networks
def vit(setting: Setting, arch: dict, kind: str = 'VisionTransformer', last_heads: int | None = None, **more) -> dict:
    heads, layers = arch['num_heads'], arch['num_layers']
    layer_cfgs = [*[dict(num_heads=heads)] * (layers - 1), dict(num_heads=last_heads or heads)]
    return dict(type=kind, arch=arch, img_size=setting.size, patch_size=setting.patch, layer_cfgs=layer_cfgs) | more


def plain_vit(setting: Setting, arch: dict) -> dict:
    """The ViT as a classifier takes it: the mean of its last tokens."""
    return vit(setting, arch, out_type='avg_featmap', final_norm=False)


def tiny_vit(setting: Setting) -> dict:
    return dict(type='mmtinyvit.TinyViT', arch=setting.tiny_vit)


def mae(setting: Setting) -> dict:
    """The teacher: mmpretrain's MAE."""
    decoder = dict(type='MAEPretrainDecoder', patch_size=setting.patch, num_patches=(setting.size // setting.patch)**2,
                   embed_dim=setting.teacher['embed_dims'], decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4)
    head = dict(type='MAEPretrainHead', patch_size=setting.patch,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'))
    return dict(type='MAE', backbone=vit(setting, setting.teacher, 'MAEViT', mask_ratio=0.6), neck=decoder, head=head)


def student_of(setting: Setting, loss: str, student: dict, teacher: dict, checkpoint: str, block: int,
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


def classifier(backbone: dict, width: int) -> dict:
    """A classifier of ten classes on a backbone with so many channels."""
    return dict(type='ImageClassifier', backbone=backbone, head=dict(
        type='LinearClsHead', num_classes=10, loss=dict(type='CrossEntropyLoss'), in_channels=width))


def write_random_vit(setting: Setting, file: Path) -> None:
    """Write the weights of a teacher that nobody trained."""
    init_default_scope('mmpretrain')
    set_random_seed(1000)
    model = MODELS.build(vit(setting, setting.teacher, 'MAEViT'))
    model.init_weights()
    torch.save(model.state_dict(), file)
