"""MobileViT-XXS trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2110.02178), 300 epochs.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_xxs_in1k.py 8 --amp

Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 69.0 top-1 at 256 pixels.
"""
_base_ = ['_base_/model.py', '_base_/imagenet1k_multi_scale.py', '_base_/schedule_300e.py']

model = dict(
    backbone=dict(arch='xx_small', drop_rate=0.1),
    neck=[dict(type='mmpretrain.GlobalAveragePooling'), dict(type='mmtinyvit.DropoutNeck', rate=0.1)],
    head=dict(
        in_channels=320,
        loss=dict(_delete_=True, type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
