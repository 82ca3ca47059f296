"""AdamW for small students on a few cores; a config adds how many epochs, and how the rate falls."""
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
auto_scale_lr = dict(base_batch_size=64)

val_cfg = dict()
test_cfg = dict()
