"""TinyMIM: 300 epochs of AdamW, as in the released code (https://arxiv.org/abs/2301.01296).

The rate is per 256 images and follows the total batch by itself (2.4e-3 at the original's 4096); linear warm-up over 15
epochs, then a cosine to 0, both per iteration; no gradient clipping. With accumulation over n batches, set
auto_scale_lr.base_batch_size to 256 / n. `--amp` trains in mixed precision, as the original did.
"""
epochs = 300
warmup = 15
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
        custom_keys={'attention_biases': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=warmup, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs)
