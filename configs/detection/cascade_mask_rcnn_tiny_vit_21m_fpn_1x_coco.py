"""Cascade Mask R-CNN with TinyViT-21M on COCO, 12 epochs.

    tools/dist_train.sh configs/detection/cascade_mask_rcnn_tiny_vit_21m_fpn_1x_coco.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_21m_distill_in21k/epoch_90.pth

Cost: not run here.
Result: not run here; the paper reports 50.2 box AP for Cascade Mask R-CNN with TinyViT-21M, without its recipe.
"""
_base_ = [
    '../_base_/detection/cascade_mask_rcnn.py', '../_base_/detection/coco.py', '../_base_/detection/schedule_1x.py'
]

model = dict(
    backbone=dict(
        arch='21m', drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/tiny_vit_21m_distill_in21k/epoch_90.pth')),
    neck=dict(in_channels=[96, 192, 384, 576]))
