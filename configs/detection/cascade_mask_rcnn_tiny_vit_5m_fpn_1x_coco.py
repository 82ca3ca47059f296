"""Cascade Mask R-CNN with TinyViT-5M on COCO, 12 epochs.

    tools/dist_train.sh configs/detection/cascade_mask_rcnn_tiny_vit_5m_fpn_1x_coco.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth

Cost and result: not run here, and none published.
"""
_base_ = [
    '../_base_/detection/cascade_mask_rcnn.py', '../_base_/detection/coco.py', '../_base_/detection/schedule_1x.py'
]

model = dict(
    backbone=dict(
        arch='5m', drop_path_rate=0.,
        init_cfg=dict(checkpoint='work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth')),
    neck=dict(in_channels=[64, 128, 160, 320]))
