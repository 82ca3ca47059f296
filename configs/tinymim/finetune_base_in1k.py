"""TinyMIM-B finetuned on ImageNet-1K (https://arxiv.org/abs/2301.01296), 100 epochs.

    tools/dist_train.sh configs/tinymim/finetune_base_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/mae_large_to_base/epoch_300.pth

The last block's projection and MLP and the head start from random numbers, as in the original.
Cost: not run here; the original's total batch is 1024.
Result: not run here; published: 85.0 top-1.
"""
_base_ = [
    '../_base_/models/vit_base.py', '../_base_/datasets/imagenet1k_mixed_labels.py',
    '../_base_/schedules/tinymim_finetune_100e.py', '../_base_/default_runtime.py'
]

model = dict(backbone=dict(drop_path_rate=0.2))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', 'backbone.ln2.'), unused=('backbone.ln1.', 'losses.'))
]
