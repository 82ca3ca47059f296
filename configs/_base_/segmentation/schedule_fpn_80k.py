"""80,000 steps of AdamW at 16 images, as Semantic FPN is usually trained over small transformers.

From PVT (https://arxiv.org/abs/2102.12122): rate 1e-4 falling to 0 by the power 0.9, weight decay 1e-4. Biases, norms
and attention biases are not decayed. The rate follows the total batch by itself. `--amp` trains in mixed precision.
"""
iterations = 80000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}))
param_scheduler = [dict(type='PolyLR', eta_min=0., power=0.9, begin=0, end=iterations, by_epoch=False)]
auto_scale_lr = dict(enable=True, base_batch_size=16)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=8000)
