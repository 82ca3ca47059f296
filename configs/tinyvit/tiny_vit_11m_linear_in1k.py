"""A linear classifier of ImageNet-1K on the frozen features of TinyViT-11M.

    tools/dist_train.sh configs/tinyvit/tiny_vit_11m_linear_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth

The head starts anew, whatever head the checkpoint has. Other folders of images: docs/en/finetuning.md.
Cost and result: not run here.
"""
_base_ = [
    '../_base_/models/tinyvit_11m.py', '../_base_/datasets/imagenet1k_plain.py',
    '../_base_/schedules/linear_probe_100e.py', '../_base_/default_runtime.py'
]

model = dict(backbone=dict(frozen_stages=4))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.NewHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', ))
]
