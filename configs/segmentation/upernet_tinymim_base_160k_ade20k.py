"""UPerNet with TinyMIM-B on ADE20K (https://arxiv.org/abs/2301.01296), 160,000 steps.

    tools/dist_train.sh configs/segmentation/upernet_tinymim_base_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/mae_large_to_base/epoch_300.pth

A checkpoint finetuned on ImageNet-1K does as well.
Cost: not run here.
Result: not run here; published: 52.2 mIoU.
"""
_base_ = [
    '../_base_/segmentation/upernet_vit.py', '../_base_/segmentation/ade20k.py',
    '../_base_/segmentation/schedule_upernet_160k.py', '../_base_/segmentation/runtime.py'
]

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
