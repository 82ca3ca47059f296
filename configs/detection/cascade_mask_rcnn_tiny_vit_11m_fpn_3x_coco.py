"""Cascade Mask R-CNN with TinyViT-11M on COCO, 36 epochs.

    tools/dist_train.sh configs/detection/cascade_mask_rcnn_tiny_vit_11m_fpn_3x_coco.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth

Cost and result: not run here, and none published.
"""
_base_ = [
    '../_base_/detection/cascade_mask_rcnn.py', '../_base_/detection/coco_crops.py',
    '../_base_/detection/schedule_3x.py'
]

model = dict(
    backbone=dict(
        arch='11m', drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth')),
    neck=dict(in_channels=[64, 128, 256, 448]))
