"""TinyViT-21M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2207.10666), 300 epochs.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_in1k.py 8 --amp

Mixup 0.8, CutMix 1.0 and label smoothing 0.1. The mixing belongs to the view's name, pair by pair, and can be replayed;
the original draws one coefficient for a batch.
Cost: not run here; the original used 8 GPUs with 128 images each.
Result: not run here; published: 83.1 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.2),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=576,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))

# ---------------------------------------------------------------- Mixup and CutMix, as a part of the view's name
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(sampler=dict(type='mmtinyvit.PairedSampler'))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]

# ---------------------------------------------------------------- schedule
# The rate is per 512 images and follows the total batch by itself (1e-3 at the original's 8 x 128); its first and last
# values are shares of it. The cosine counts from the first epoch on, as in the original, and the warm-up multiplies it.
# With accumulation over n batches, set auto_scale_lr.base_batch_size to 512 / n.
epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
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
