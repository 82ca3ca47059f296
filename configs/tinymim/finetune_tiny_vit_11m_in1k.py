"""TinyViT-11M finetuned on ImageNet-1K after TinyMIM, 100 epochs.

    tools/dist_train.sh configs/tinymim/finetune_tiny_vit_11m_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_11m_from_mae_large/epoch_300.pth

The schedule is that of TinyMIM-B with TinyViT's own layer-wise decay, 0.8; nothing about it is published.
Cost and result: not run here.
"""
_base_ = [
    '../_base_/models/tinyvit_11m.py', '../_base_/datasets/imagenet1k_mixed_labels.py',
    '../_base_/schedules/tinymim_finetune_100e.py', '../_base_/default_runtime.py'
]

model = dict(
    backbone=dict(drop_path_rate=0.1),
    head=dict(loss=dict(_delete_=True, type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', ), unused=('losses.', ))
]
