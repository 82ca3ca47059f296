"""TinyMIM-B from MAE ViT-L, target block 21 of 24.

    tools/dist_train.sh configs/tinymim/ablations/block_21.py 8 --amp

Cost and result: not run here.
"""
_base_ = '../mae_large_to_base.py'

model = dict(teacher=dict(block=21))
epochs = 100
warmup = 5
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=warmup, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=epochs)
