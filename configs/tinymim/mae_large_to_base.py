"""TinyMIM-B from MAE ViT-L, block 18 (https://arxiv.org/abs/2301.01296): the first step of the chain, 300 epochs.

    tools/dist_train.sh configs/tinymim/mae_large_to_base.py 8 --amp

The teacher is mae_pretrain_vit_large.pth of https://github.com/facebookresearch/mae, as it is.
Cost: not run here; the original's total batch is 4096.
Result: not run here; published: 85.0 top-1 on ImageNet-1K after finetuning (one user of the released code got 84.7).
"""
_base_ = [
    '../_base_/models/tinymim_base.py', '../_base_/selfsup/imagenet1k_view_pairs.py',
    '../_base_/schedules/tinymim_300e.py', '../_base_/default_runtime.py'
]

model = dict(
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='large'),
        checkpoint='checkpoints/mae_pretrain_vit_large.pth',
        block=18))
