"""ImageNet-1K after TinyMIM: 200 epochs for the small and the tiny model.

The authors say "higher learning rate and larger batch" for these two; 200 epochs and 5e-3 at batch 2048 are remembered
from the paper and not verified, and the layer-wise decay is the base model's.
"""
_base_ = 'tinymim_finetune_100e.py'

epochs = 200
warmup = 5
optim_wrapper = dict(optimizer=dict(lr=5e-3 * 256 / 2048))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 5e-3, begin=warmup, end=epochs, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
