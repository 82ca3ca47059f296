"""TinyMIM-B from MAE ViT-L, target block 18 of 24.

    tools/dist_train.sh configs/tinymim/ablations/block_18.py 8 --amp

Cost and result: not run here.
"""
_base_ = [
    '../../_base_/models/tinymim_base.py', '../../_base_/selfsup/imagenet1k_view_pairs.py',
    '../../_base_/schedules/tinymim_100e.py', '../../_base_/default_runtime.py'
]

model = dict(
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='large'),
        checkpoint='checkpoints/mae_pretrain_vit_large.pth',
        block=18))
