"""Cascade Mask R-CNN (https://arxiv.org/abs/1906.09756) of mmdet over the four maps of a TinyViT.

BatchNorm keeps its statistics: two images on a GPU are too few for new ones. A config sets the size, its channels and
the checkpoint; the backbone must be filled completely, or training does not start.
"""
_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.2, out_indices=(0, 1, 2, 3),
        gap_before_output=False, norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/distill_in21k/epoch_90.pth', prefix='backbone.')),
    neck=dict(in_channels=[96, 192, 384, 576]))
