"""160,000 steps of AdamW, as released with TopFormer: 1.2e-4, ten times that in the head, falling linearly to 0.

The same rates for 2 and for 4 images on each of 8 GPUs, so they do not follow the batch. BatchNorm is decayed too: the
release means to spare it, but by a name that its layers do not have.
"""
iterations = 160000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0., power=1., begin=1500, end=iterations, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=16000)
