"""TopFormer-B trained on ImageNet-1K with labels, 300 epochs, to start segmentation from.

    tools/dist_train.sh projects/topformer/configs/topformer_base_in1k.py 8 --amp

AdamW, 2e-3 for a batch of 1024, weight decay 0.01 and label smoothing 0.1. The rate and the decay are PaddleViT's, its
batch is not known; the authors trained 600 epochs with RMSprop. Augmentation and warm-up are TinyViT's.
Cost: not run here.
Result: not run here; published: 74.2 top-1 (PaddleViT), 75.3 (the authors).
"""
_base_ = '../../../configs/_base_/imagenet1k.py'
custom_imports = dict(imports=['projects.topformer.topformer'])

# ---------------------------------------------------------------- model: tokens at stride 32, pooled, BatchNorm, linear
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TopFormer', arch='base', pool_stride=1, inject=False),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=384, affine=True, eps=1e-5),
    ],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='Normal', layer='Linear', std=.01, bias=0.)))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]

# ---------------------------------------------------------------- schedule
epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 5e-4, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-6 / 5e-4, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
