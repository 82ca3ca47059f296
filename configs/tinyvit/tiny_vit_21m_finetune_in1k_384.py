"""TinyViT-21M finetuned on ImageNet-1K at 384 pixels (https://arxiv.org/abs/2207.10666), after 224.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_finetune_in1k_384.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_finetune_in1k/epoch_30.pth

The windows grow with the image, and the attention biases of the checkpoint are interpolated. The test image is resized
as a whole, without a crop.
Cost: not run here; the original used 8 GPUs with 4 x 32 images each. 13.8 G multiply-adds an image.
Result: not run here; published: 86.2 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.1, norm_eval=True,
                  window_sizes=(12, 12, 24, 12)),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=576,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.RequireWeightsHook')]

# ---------------------------------------------------------------- views and test
image_size = 384
view_transforms = _base_.view_transforms
view_transforms[0].scale = image_size
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='Resize', scale=(image_size, image_size), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))

# ---------------------------------------------------------------- schedule
# One rate for all layers: the original decays it by layer only in the step before, from ImageNet-21K at 224 pixels.
# Four batches of 32 make one step, so that 8 GPUs take 1,024 images at a time as in the original. The rate is per 512
# images and follows the total batch by itself (4e-5 at 1,024).
epochs = 30
accumulation = 4
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-8),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    accumulative_counts=accumulation,
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-8 / 2e-5, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2e-7 / 2e-5, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512 // accumulation)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
