"""A linear classifier of Imagenette's ten classes on the frozen features of the distilled student.

    python tools/train.py configs/imagenette/linear_probe.py \
        --cfg-options load_from=work_dirs/imagenette/distill/epoch_12.pth
"""
_base_ = ['data.py', 'student.py']

epochs = 10
model = dict(backbone=dict(frozen_stages=4), head=dict(num_classes=10))
optim_wrapper = dict(_delete_=True, optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0., by_epoch=True, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook', num_views=_base_.num_views), dict(type='mmtinyvit.NewHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', ))
]
