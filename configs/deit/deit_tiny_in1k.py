"""DeiT-Ti on ImageNet-1K, 300 epochs (https://arxiv.org/abs/2012.12877): the data-efficient recipe, without a teacher.

    tools/dist_train.sh configs/deit/deit_tiny_in1k.py 8 --amp

What differs from mmpretrain's deit-tiny_4xb256_in1k.py, and follows the original:

- warm-up: 5 epochs from 1e-6, a step per epoch, there 20 epochs, a step per iteration;
- cosine: counted from the first epoch, there from the end of the warm-up;
- gradient clipping: none, there 5.0;
- stochastic depth: 0.1, rising linearly, there none for Ti and S;
- averaged weights: decay 0.99996, there none for Ti and S;
- repeated augmentation: three views of an image in a step, there none;
- start: truncated normal in MLPs, class token and head, there Xavier, zero and zero;
- the rate follows the total batch, there only with --auto-scale-lr.

The same in both, and not quite the original's: noise is erased before normalisation, so it is clipped to 0 ... 255, and
RandAugment is mmpretrain's. The original keeps the first rate for two epochs; here it is one.

Cost: not run here; the original used one node of 4 GPUs with 256 images each.
Result: not run here; published: 72.2 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.DeiT', arch='deit-tiny', img_size=224, drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))

# ---------------------------------------------------------------- three views of an image, Mixup and CutMix
# Repeated augmentation: an epoch has as many views as there are images, three of every third image. In one process, as
# in the original, an epoch has one view of every image. Mixup or CutMix, one of them drawn for each batch.
data_preprocessor = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
train_dataloader = dict(
    drop_last=True,
    sampler=dict(type='mmtinyvit.RepeatAugSampler', num_repeats=3),
    dataset=dict(
        _delete_=True, type='mmtinyvit.RepeatedViews', num_repeats=3, dataset=_base_.train_dataloader.dataset))

# ---------------------------------------------------------------- schedule
# The rate is per 512 images and follows the total batch by itself (1e-3 at the original's 1024); its first and last
# values are shares of it. It changes once per epoch, as in the original. The cosine counts from the first epoch on, and
# the warm-up multiplies it. No gradient is clipped. The weights are averaged, and both the averaged and the plain ones
# are validated; the checkpoint's `state_dict` is the averaged one.
epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0.,
        custom_keys={'.cls_token': dict(decay_mult=0.), '.dist_token': dict(decay_mult=0.),
                     '.pos_embed': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 1e-3, end=6, by_epoch=True),  # the sixth epoch is the first at full rate
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-5 / 1e-3, end=epochs, by_epoch=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)
default_hooks = dict(
    ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=1 - 0.99996, evaluate_on_origin=True))

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
