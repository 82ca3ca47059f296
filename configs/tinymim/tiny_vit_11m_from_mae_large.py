"""TinyViT-11M from MAE ViT-L, block 18, by relations on a common grid: 300 epochs, without labels.

    tools/dist_train.sh configs/tinymim/tiny_vit_11m_from_mae_large.py 8 --amp

Stage 3 (14 x 14 tokens) and stage 4 (7 x 7) learn from the teacher's patches, cut into its 16 heads; docs/en/tinymim.md
says how. An idea of this library: the schedule is TinyMIM's, and nothing about it is published.
Cost and result: not run here.
"""
_base_ = 'mae_large_to_base.py'

model = dict(
    _delete_=True,
    type='mmtinyvit.TinyMIM',
    backbone=dict(type='mmtinyvit.TinyViT', arch='11m', drop_path_rate=0.),
    teacher=dict(
        backbone=dict(type='mmpretrain.VisionTransformer', arch='large'),
        checkpoint='checkpoints/mae_pretrain_vit_large.pth',
        block=18))
