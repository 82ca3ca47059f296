"""ImageNet-1K at a higher resolution: 30 epochs (https://arxiv.org/abs/2207.10666).

One rate for all layers: the original decays it by layer only in the step before, from ImageNet-21K at 224 pixels. Four
batches of 32 make one step, so that 8 GPUs take 1,024 images at a time as in the original. The rate is per 512 images
and follows the total batch by itself (4e-5 at 1,024).
"""
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
