"""TinyMIM-T from MAE ViT-B with the released losses, QK and VV, in 100 epochs: what the others compare with.

    tools/dist_train.sh configs/tinymim/ablations/baseline.py 8 --amp

Cost and result: not run here.
"""
_base_ = [
    '../../_base_/models/tinymim_tiny.py', '../../_base_/selfsup/imagenet1k_view_pairs.py',
    '../../_base_/schedules/tinymim_100e.py', '../../_base_/default_runtime.py'
]

model = dict(
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='base'),
        checkpoint='checkpoints/mae_pretrain_vit_base.pth',
        block=12))
