"""TinyMIM-T from MAE ViT-B by features: the MLP's output in block 12, before the residual sum.

    tools/dist_train.sh configs/tinymim/ablations/features_ffn.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=192, teacher_dims=768, feature='ffn'),
    ])
