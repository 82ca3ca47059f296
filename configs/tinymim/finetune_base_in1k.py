"""TinyMIM-B finetuned on ImageNet-1K (https://arxiv.org/abs/2301.01296), 100 epochs.

    tools/dist_train.sh configs/tinymim/finetune_base_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/mae_large_to_base/epoch_300.pth

The last block's projection and MLP and the head start from random numbers, as in the original.
Cost: not run here; the original's total batch is 1024.
Result: not run here; published: 85.0 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model: the heads of DeiT, patch tokens averaged
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='deit-base', out_type='avg_featmap', final_norm=False,
        drop_path_rate=0.2),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', 'backbone.ln2.'), unused=('backbone.ln1.', 'losses.'))
]

# ---------------------------------------------------------------- Mixup and CutMix, as a part of the view's name
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(sampler=dict(_delete_=True, type='mmtinyvit.PairedSampler'))

# ---------------------------------------------------------------- schedule
# Layer-wise decay of the rate, as released for the base model.
# The rate is per 256 images and follows the total batch by itself (2e-3 at the original's 1024); the last rate is a
# share of it. With accumulation over n batches, set auto_scale_lr.base_batch_size to 256 / n.
epochs = 100
warmup = 5
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65, bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
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
