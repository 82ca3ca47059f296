"""ImageNet-1K: 450 epochs of AdamW, as Mobile-Former was trained (https://arxiv.org/abs/2108.05895).

The rate is that of 1,024 images and follows the total batch by itself. A variant sets the rate and the weight decay.
Warm-up and last rate are not published: here 5 epochs from a thousandth of the rate, and down to a hundredth.
"""
epochs = 450
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.20),
    paramwise_cfg=dict(bias_decay_mult=0., norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-2, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=1024)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
