"""ImageNet-1K at 384 pixels: 30 epochs of finetuning as for DeiT-B (https://arxiv.org/abs/2012.12877).

The rate is 5e-6 per 512 images, the original's batch, reached from 1e-6 in five epochs and constant from then on.
"""
_base_ = 'deit_in1k_300e.py'

epochs = 30
optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))
param_scheduler = [dict(type='LinearLR', start_factor=1e-6 / 5e-6, end=6, by_epoch=True)]
train_cfg = dict(max_epochs=epochs)
