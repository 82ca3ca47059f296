"""MobileViT-S trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2110.02178), 300 epochs.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_s_in1k.py 8 --amp

Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 78.3 top-1 at 256 pixels.
"""
_base_ = '../../../configs/_base_/imagenet1k.py'
custom_imports = dict(imports=['projects.mobilevit.mobilevit'])

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.MobileViT', arch='small', drop_rate=0.1),
    neck=[dict(type='mmpretrain.GlobalAveragePooling'), dict(type='mmtinyvit.DropoutNeck', rate=0.1)],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=640,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))

# ---------------------------------------------------------------- views of five sizes; 256 of 288 pixels to test on
# One batch has one size, drawn by its name, and the fewer images the larger they are. 1,024 images in a step at 256
# pixels on 8 GPUs are 2,616 at 160 and 648 at 320.
data_preprocessor = dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)
image_size = 256
view_transforms = [
    dict(type='mmtinyvit.SizedRandomResizedCrop', scale=image_size, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
]
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=288, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_sampler=dict(type='mmtinyvit.MultiScaleBatchSampler', sides=(160, 192, 256, 288, 320), base_side=image_size),
    dataset=dict(
        _delete_=True, type='mmtinyvit.SizedViews',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]

# ---------------------------------------------------------------- schedule
# The rate is that of 1,024 images at 256 pixels and follows the total batch by itself. It rises from a tenth over
# 20,000 steps and falls to a tenth; the cosine counts from the first step on. The weights are averaged, and both the
# averaged and the plain ones are validated; the checkpoint's `state_dict` is the averaged one.
epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(bias_decay_mult=0., norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20000, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=1024)
default_hooks = dict(ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=5e-4, evaluate_on_origin=True))

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
