"""TinyMIM-T from MAE ViT-B by features: queries, keys and values of block 12 side by side.

    tools/dist_train.sh configs/tinymim/ablations/features_qkv.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=576, teacher_dims=2304, feature='qkv'),
    ])
