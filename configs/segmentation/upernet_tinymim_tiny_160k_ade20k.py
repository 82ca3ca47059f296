"""UPerNet with TinyMIM-T on ADE20K (https://arxiv.org/abs/2301.01296), 160,000 steps.

    tools/dist_train.sh configs/segmentation/upernet_tinymim_tiny_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tinymim_small_to_tiny/epoch_300.pth

A checkpoint finetuned on ImageNet-1K does as well.
The width of the heads and the decay are those of the release's light network with 12 heads (45.0 mIoU).
Cost: not run here.
Result: not run here; published: 44.0 mIoU.
"""
_base_ = [
    '../_base_/segmentation/upernet_vit.py', '../_base_/segmentation/ade20k.py',
    '../_base_/segmentation/schedule_upernet_160k.py', '../_base_/segmentation/runtime.py'
]

model = dict(
    backbone=dict(
        arch='deit-tiny', init_cfg=dict(checkpoint='work_dirs/tinymim_small_to_tiny/epoch_300.pth')),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192] * 4, channels=192),
    auxiliary_head=dict(in_channels=192))
