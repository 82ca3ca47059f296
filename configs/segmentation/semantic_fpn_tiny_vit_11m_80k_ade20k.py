"""Semantic FPN with TinyViT-11M on ADE20K, 80,000 steps.

    tools/dist_train.sh configs/segmentation/semantic_fpn_tiny_vit_11m_80k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth

Cost and result: not run here, and none published.
"""
_base_ = [
    '../_base_/segmentation/semantic_fpn.py', '../_base_/segmentation/ade20k.py',
    '../_base_/segmentation/schedule_fpn_80k.py', '../_base_/segmentation/runtime.py'
]

model = dict(
    backbone=dict(
        arch='11m', drop_path_rate=0.1, init_cfg=dict(checkpoint='work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth')),
    neck=dict(in_channels=[64, 128, 256, 448]))
