"""ImageNet-1K after TinyMIM: 100 epochs of AdamW with layer-wise decay of the rate, as released for the base model.

The rate is per 256 images and follows the total batch by itself (2e-3 at the original's 1024); the last rate is a share
of it. With accumulation over n batches, set auto_scale_lr.base_batch_size to 256 / n.
"""
epochs = 100
warmup = 5
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65, bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
        custom_keys={
            '.cls_token': dict(decay_mult=0.),
            '.pos_embed': dict(decay_mult=0.),
            'attention_biases': dict(decay_mult=0.)
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 2e-3, begin=warmup, end=epochs, by_epoch=True,
         convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
