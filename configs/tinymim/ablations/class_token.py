"""TinyMIM-T from MAE ViT-B by the class token behind the last norm.

    tools/dist_train.sh configs/tinymim/ablations/class_token.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(
    losses=[
        dict(type='mmtinyvit.ClassTokenDistillationLoss', student_dims=192, teacher_dims=768, feature='final'),
    ])
