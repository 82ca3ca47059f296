"""TinyViT-11M finetuned on ImageNet-1K after distillation on ImageNet-21K (https://arxiv.org/abs/2207.10666).

    tools/dist_train.sh configs/tinyvit/tiny_vit_11m_finetune_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth

Cost: not run here; the original used 8 GPUs with 128 images each.
Result: not run here; published: 83.2 top-1.
"""
_base_ = [
    '../_base_/models/tinyvit_11m.py', '../_base_/datasets/imagenet1k.py', '../_base_/schedules/finetune_in1k_30e.py',
    '../_base_/default_runtime.py'
]

model = dict(
    backbone=dict(drop_path_rate=0., norm_eval=True),
    head=dict(loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.MapHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook')
]
