# No weight decay on attention biases (the original's rule), nor on any other bias or norm.
optim_wrapper = dict(
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}))
