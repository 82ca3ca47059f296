# TopFormer-T (https://arxiv.org/abs/2204.05525) as a segmenter in mmseg, starting from a classifier.
_base_ = '../../../../configs/_base_/segmentation/segmenter.py'

custom_imports = dict(imports=['projects.topformer.topformer', 'projects.topformer.topformer.simple_head'])

model = dict(
    backbone=dict(
        type='mmtinyvit.TopFormer', arch='tiny',
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/topformer_tiny_in1k/epoch_300.pth', prefix='backbone.')),
    decode_head=dict(
        type='mmtinyvit.SimpleHead',
        in_channels=[128, 128, 128],
        in_index=[0, 1, 2],
        channels=128,
        depthwise=True,
        dropout_ratio=0.1,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)))
