"""TinyViT-21M finetuned on ImageNet-1K after distillation on ImageNet-21K (https://arxiv.org/abs/2207.10666).

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_finetune_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_distill_in21k/epoch_90.pth

Cost: not run here; the original used 8 GPUs with 128 images each.
Result: not run here; published: 84.8 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.1, norm_eval=True),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=576,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.MapHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook')
]

# ---------------------------------------------------------------- schedule
# Layer-wise decay of the rate, 0.8 per block; no Mixup, no CutMix. The rate is per 512 images and follows the total
# batch by itself (5e-4 at the original's 8 x 128).
epochs = 30
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2.5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    constructor='mmtinyvit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.8, bias_decay_mult=0., norm_decay_mult=0.,
        custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 2.5e-4, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-5 / 2.5e-4, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
