"""Semantic FPN (https://arxiv.org/abs/1901.02446) of mmseg over the four maps of a TinyViT.

The backbone's BatchNorm keeps its statistics. A config sets the size, its channels and the checkpoint; the backbone
must be filled completely, or training does not start.
"""
_base_ = 'segmenter.py'

model = dict(
    backbone=dict(
        type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.2, out_indices=(0, 1, 2, 3), gap_before_output=False,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/distill_in21k/epoch_90.pth', prefix='backbone.')),
    neck=dict(type='FPN', in_channels=[96, 192, 384, 576], out_channels=256, num_outs=4),
    decode_head=dict(
        type='FPNHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)))
