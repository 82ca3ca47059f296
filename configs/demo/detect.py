"""A small RetinaNet finds digits on larger images; its backbone is the student that the demo distilled.

    python tools/train.py configs/demo/detect.py
"""
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'canvases.py']

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='mmtinyvit.TinyViT',
        arch=dict(embed_dims=(32, 48, 64, 96), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 3), window_sizes=(7, 4, 4, 4)),
        out_indices=(1, 2, 3),
        gap_before_output=False,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/demo/distill/last.pth', prefix='backbone.')),
    neck=dict(in_channels=[48, 64, 96], out_channels=64, start_level=0, num_outs=3),
    bbox_head=dict(
        num_classes=10, in_channels=64, feat_channels=64, stacked_convs=2,
        anchor_generator=dict(octave_base_scale=3, scales_per_octave=2, strides=[8, 16, 32])))
