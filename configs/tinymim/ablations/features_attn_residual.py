"""TinyMIM-T from MAE ViT-B by features: the attention's output in block 12, behind the residual sum.

    tools/dist_train.sh configs/tinymim/ablations/features_attn_residual.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=192, teacher_dims=768, feature='attn_residual'),
    ])
