"""TinyMIM-T from MAE ViT-B by features: the output behind the last norm.

    tools/dist_train.sh configs/tinymim/ablations/features_final.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=192, teacher_dims=768, feature='final'),
    ])
