"""DeiT-Ti finetuned on ImageNet-1K at 384 pixels, 30 epochs (https://arxiv.org/abs/2012.12877).

    tools/dist_train.sh configs/deit/deit_tiny_in1k_384.py 8 --amp \
        --cfg-options load_from=work_dirs/deit_tiny_in1k/epoch_300.pth

The position embedding of the checkpoint, ours or an official one, is resized while loading.

What differs from mmpretrain's deit-base_16xb32_in1k-384px.py, and follows the original:

- rate 5e-6 per 512 images, constant after a warm-up of 5 epochs, there 3e-3 with 30 epochs of warm-up and a cosine;
- weight decay 1e-8, none on biases and norms, there 0.3 on both;
- 30 epochs, there 300;
- gradient clipping: none, there 1.0;
- RandAugment, erasing, Mixup, CutMix and repeated augmentation, there none of them;
- stochastic depth 0.1 and averaged weights, there none;
- tested on the centre of an image of 438 pixels, there on the whole image.

Cost: not run here; the original used 16 GPUs (2 x 8) with 32 images each.
Result: not run here, and none published.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.DeiT', arch='deit-tiny', img_size=384, drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))

# ---------------------------------------------------------------- views and test, of 384 pixels
image_size = 384
view_transforms = _base_.view_transforms
view_transforms[0].scale = image_size
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=438, edge='short', backend='pillow', interpolation='bicubic'),  # 384 / 0.875
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]
val_dataloader = test_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))

# ---------------------------------------------------------------- as at 224: three views of an image, Mixup and CutMix
data_preprocessor = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
train_dataloader = dict(
    batch_size=32,
    drop_last=True,
    sampler=dict(type='mmtinyvit.RepeatAugSampler', num_repeats=3),
    dataset=dict(
        _delete_=True, type='mmtinyvit.RepeatedViews', num_repeats=3,
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)))

# ---------------------------------------------------------------- schedule
# The rate is 5e-6 per 512 images, the original's batch, reached from 1e-6 in five epochs and constant from then on.
# No gradient is clipped. The weights are averaged as at 224 pixels.
epochs = 30
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-6, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0.,
        custom_keys={'.cls_token': dict(decay_mult=0.), '.dist_token': dict(decay_mult=0.),
                     '.pos_embed': dict(decay_mult=0.)}))
param_scheduler = [dict(type='LinearLR', start_factor=1e-6 / 5e-6, end=6, by_epoch=True)]
auto_scale_lr = dict(enable=True, base_batch_size=512)
default_hooks = dict(
    ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=1 - 0.99996, evaluate_on_origin=True))

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
