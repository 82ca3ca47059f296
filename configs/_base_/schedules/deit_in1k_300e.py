"""ImageNet-1K: 300 epochs of AdamW, as DeiT was trained (https://arxiv.org/abs/2012.12877).

The rate is per 512 images and follows the total batch by itself (1e-3 at the original's 1024); its first and last
values are shares of it. It changes once per epoch, as in the original. The cosine counts from the first epoch on, and
the warm-up multiplies it. No gradient is clipped. The weights are averaged, and both the averaged and the plain ones
are validated; the checkpoint's `state_dict` is the averaged one.
"""
_base_ = '../default_runtime.py'

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
