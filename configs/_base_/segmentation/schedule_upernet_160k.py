"""160,000 steps of AdamW at 16 images, the rate decayed by layer.

Steps, warm-up and the linear fall to 0 are those that window transformers are usually trained with in UPerNet; the
decay by layer is TinyViT's for finetuning. Vectors and attention biases are not decayed. The rate follows the total
batch by itself. `--amp` trains in mixed precision.
"""
iterations = 160000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmtinyvit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.8, bias_decay_mult=0., norm_decay_mult=0., flat_decay_mult=0.,
        custom_keys={'attention_biases': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0., power=1., begin=1500, end=iterations, by_epoch=False),
]
auto_scale_lr = dict(enable=True, base_batch_size=16)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=16000)
