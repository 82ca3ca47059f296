"""The 36 epochs of COCO's 3x schedule; the optimizer is that of 1x."""
_base_ = './schedule_1x.py'

epochs = 36
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=epochs, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=epochs)
