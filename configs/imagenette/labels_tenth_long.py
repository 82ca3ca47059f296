"""The student trained with every tenth label, for as many images as the others: ten times the epochs, a new view each.
"""
_base_ = ['data.py', 'student.py']

model = dict(head=dict(num_classes=10))
train_dataloader = dict(dataset=dict(indices=list(range(0, 7500, 10))))
epochs = 200
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
