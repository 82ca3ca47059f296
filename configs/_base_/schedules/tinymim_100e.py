"""TinyMIM's ablations: 100 epochs, 5 of them warm-up.

Remembered from the paper and not verified; the released code has the 300 epochs of tinymim_300e.py alone.
"""
_base_ = 'tinymim_300e.py'

epochs = 100
warmup = 5
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=warmup, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
