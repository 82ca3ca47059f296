"""TinyViT-21M finetuned on ImageNet-1K at 512 pixels (https://arxiv.org/abs/2207.10666), after 384.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_finetune_in1k_512.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_finetune_in1k_384/epoch_30.pth

The windows grow with the image, and the attention biases of the checkpoint are interpolated. The test image is resized
as a whole, without a crop.
Cost: not run here; the original used 8 GPUs with 4 x 32 images each. 27.0 G multiply-adds an image.
Result: not run here; published: 86.5 top-1.
"""
_base_ = [
    '../_base_/models/tinyvit_21m_512.py', '../_base_/datasets/imagenet1k_512.py',
    '../_base_/schedules/finetune_resolution_30e.py', '../_base_/default_runtime.py'
]

model = dict(
    backbone=dict(drop_path_rate=0.1, norm_eval=True),
    head=dict(loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.RequireWeightsHook')]
