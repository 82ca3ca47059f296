"""UPerNet with TinyViT-5M on ADE20K, 160,000 steps.

    tools/dist_train.sh configs/segmentation/upernet_tiny_vit_5m_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth

Cost and result: not run here, and none published.
"""
_base_ = [
    '../_base_/segmentation/upernet.py', '../_base_/segmentation/ade20k.py',
    '../_base_/segmentation/schedule_upernet_160k.py', '../_base_/segmentation/runtime.py'
]

model = dict(
    backbone=dict(
        arch='5m', drop_path_rate=0., init_cfg=dict(checkpoint='work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth')),
    decode_head=dict(in_channels=[64, 128, 160, 320]),
    auxiliary_head=dict(in_channels=160))
