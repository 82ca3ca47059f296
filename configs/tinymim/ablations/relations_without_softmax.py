"""TinyMIM-T from MAE ViT-B by the scaled products QK and VV themselves, without softmax.

    tools/dist_train.sh configs/tinymim/ablations/relations_without_softmax.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(losses=[dict(type='mmtinyvit.RelationDistillationLoss', relations=['qk', 'vv'], softmax=False)])
