"""A small DeiT with two heads trained with all 7,500 labels, without a teacher, on the views of the store.

    python tools/train.py configs/imagenette/deit_none.py
"""
_base_ = 'data.py'

model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(
        type='mmtinyvit.DistilledDeiT',
        img_size=96,
        patch_size=12,
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)),
    head=dict(
        type='mmtinyvit.DeiTDistillHead',
        num_classes=1000,
        in_channels=128,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    alpha=0.)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.cls_token': dict(decay_mult=0.), '.dist_token': dict(decay_mult=0.),
                                    '.pos_embed': dict(decay_mult=0.)}),
    clip_grad=None)
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.MapLabel', target='in1k'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
test_evaluator = val_evaluator = dict(
    _delete_=True, type='mmtinyvit.MappedAccuracy', num_classes='in1k', topk=(1, ))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook', num_views=_base_.num_views)]
