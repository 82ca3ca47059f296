"""TinyMIM-B from MAE ViT-L, block 18 (https://arxiv.org/abs/2301.01296): the first step of the chain, 300 epochs.

    tools/dist_train.sh configs/tinymim/mae_large_to_base.py 8 --amp

The teacher is mae_pretrain_vit_large.pth of https://github.com/facebookresearch/mae, as it is.
Cost: not run here; the original's total batch is 4096.
Result: not run here; published: 85.0 top-1 on ImageNet-1K after finetuning (one user of the released code got 84.7).
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmtinyvit.TinyMIM',
    backbone=dict(
        type='mmpretrain.MAEViT',
        arch='deit-base',
        layer_cfgs=[  # heads: 12, in the adaptive last block 16; fixed sine-cosine positions
            *[dict(num_heads=12, drop_path_rate=0.1)] * 11,
            dict(num_heads=16, drop_path_rate=0.),
        ]),
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='large'),
        checkpoint='checkpoints/mae_pretrain_vit_large.pth',
        block=18),
    init_cfg=[
        dict(type='Xavier', distribution='uniform', layer='Linear'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])

# ---------------------------------------------------------------- the teacher's view and the student's, no labels
# Both see the same random resized crop and flip; colours are jittered for the student alone. All of it is replayed: a
# run that is stopped and resumed sees the same pairs.
data_preprocessor = dict(
    _delete_=True, type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
    to_rgb=True)
view_transforms = [
    dict(type='mmtinyvit.RandomResizedCrop', scale=_base_.image_size, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='MultiView', num_views=[1, 1], transforms=[
        [],  # the teacher's
        [dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)],
    ]),
]
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = val_evaluator = test_dataloader = test_evaluator = None
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]

# ---------------------------------------------------------------- schedule
# That of the released code. The rate is per 256 images and follows the total batch by itself (2.4e-3 at the original's
# 4096); linear warm-up over 15 epochs, then a cosine to 0, both per iteration; no gradient clipping. With accumulation
# over n batches, set auto_scale_lr.base_batch_size to 256 / n. `--amp` trains in mixed precision, as the original did.
epochs = 300
warmup = 15
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
        custom_keys={'attention_biases': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=warmup, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs)
