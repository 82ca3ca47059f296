"""TinyViT-21M finetuned on ImageNet-1K after TinyMIM, 100 epochs.

    tools/dist_train.sh configs/tinymim/finetune_tiny_vit_21m_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_from_mae_base/epoch_300.pth

The schedule is that of TinyMIM-B with TinyViT's own layer-wise decay, 0.8; nothing about it is published.
Cost and result: not run here.
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
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', ), unused=('losses.', ))
]

# ---------------------------------------------------------------- Mixup and CutMix, as a part of the view's name
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(sampler=dict(_delete_=True, type='mmtinyvit.PairedSampler'))

# ---------------------------------------------------------------- schedule
# Layer-wise decay of the rate, TinyViT's own.
# The rate is per 256 images and follows the total batch by itself (2e-3 at the original's 1024); the last rate is a
# share of it. With accumulation over n batches, set auto_scale_lr.base_batch_size to 256 / n.
epochs = 100
warmup = 5
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.8, bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
        custom_keys={
            '.cls_token': dict(decay_mult=0.),
            '.pos_embed': dict(decay_mult=0.),
            'attention_biases': dict(decay_mult=0.)
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 2e-3, begin=warmup, end=epochs, by_epoch=True,
         convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
