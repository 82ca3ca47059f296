"""80,000 steps of the same."""
_base_ = 'schedule_160k.py'

iterations = 80000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0., power=1., begin=1500, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=8000)
