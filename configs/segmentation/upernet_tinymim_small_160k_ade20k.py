"""UPerNet with TinyMIM-S on ADE20K (https://arxiv.org/abs/2301.01296), 160,000 steps.

    tools/dist_train.sh configs/segmentation/upernet_tinymim_small_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tinymim_base_to_small/epoch_300.pth

A checkpoint finetuned on ImageNet-1K does as well.
The width of the heads is the backbone's; the release names none for this size.
Cost: not run here.
Result: not run here; published: 48.4 mIoU.
"""
_base_ = [
    '../_base_/segmentation/upernet_vit.py', '../_base_/segmentation/ade20k.py',
    '../_base_/segmentation/schedule_upernet_160k.py', '../_base_/segmentation/runtime.py'
]

model = dict(
    backbone=dict(
        arch='deit-small', init_cfg=dict(checkpoint='work_dirs/tinymim_base_to_small/epoch_300.pth')),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
