"""TinyMIM-T from MAE ViT-B by features: the output of block 12.

    tools/dist_train.sh configs/tinymim/ablations/features_block.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=192, teacher_dims=768, feature='block'),
    ])
