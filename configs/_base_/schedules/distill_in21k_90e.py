"""Distillation on ImageNet-21K: 90 epochs of AdamW, as published with TinyViT (https://arxiv.org/abs/2207.10666).

The rate is per 512 images and follows the total batch by itself (2e-3 at the original's 32 x 128); its first and last
values are shares of it. The cosine counts from the first epoch on, as in the original, and the warm-up multiplies it.
With accumulation over n batches, set auto_scale_lr.base_batch_size to 512 / n.
"""
_base_ = '../models/tinyvit_paramwise.py'

epochs = 90
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2.5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 2.5e-4, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-6 / 2.5e-4, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
