"""ImageNet-1K: 300 epochs of AdamW, as MobileViT was trained (https://arxiv.org/abs/2110.02178).

The rate is that of 1,024 images at 256 pixels and follows the total batch by itself. It rises from a tenth over 20,000
steps and falls to a tenth; the cosine counts from the first step on. The weights are averaged, and both the averaged
and the plain ones are validated; the checkpoint's `state_dict` is the averaged one.
"""
_base_ = '../../../../configs/_base_/default_runtime.py'

epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(bias_decay_mult=0., norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20000, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=1024)
default_hooks = dict(ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=5e-4, evaluate_on_origin=True))

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
