"""TinyMIM-B from MAE ViT-L, target block 12 of 24.

    tools/dist_train.sh configs/tinymim/ablations/block_12.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'block_18.py'

model = dict(teacher=dict(block=12))
