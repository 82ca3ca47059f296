"""UPerNet (https://arxiv.org/abs/1807.10221) of mmseg over the four maps of a TinyViT.

The backbone's BatchNorm keeps its statistics. A config sets the size, its channels and the checkpoint; the backbone
must be filled completely, or training does not start.
"""
_base_ = 'segmenter.py'

model = dict(
    backbone=dict(
        type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.2, out_indices=(0, 1, 2, 3), gap_before_output=False,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/distill_in21k/epoch_90.pth', prefix='backbone.')),
    decode_head=dict(
        type='UPerHead',
        in_channels=[96, 192, 384, 576],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)))
