"""TinyMIM-T straight from MAE ViT-B, block 12 (https://arxiv.org/abs/2301.01296), 300 epochs, without the chain.

    tools/dist_train.sh configs/tinymim/mae_base_to_tiny.py 8 --amp

The teacher is mae_pretrain_vit_base.pth of https://github.com/facebookresearch/mae, as it is.
Cost: not run here; the original's total batch is 4096.
Result: not run here; the paper has this setting in an ablation, whose numbers are not at hand.
"""
_base_ = [
    '../_base_/models/tinymim_tiny.py', '../_base_/selfsup/imagenet1k_view_pairs.py',
    '../_base_/schedules/tinymim_300e.py', '../_base_/default_runtime.py'
]

model = dict(
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='base'),
        checkpoint='checkpoints/mae_pretrain_vit_base.pth',
        block=12))
