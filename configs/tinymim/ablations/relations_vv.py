"""TinyMIM-T from MAE ViT-B by the relation VV alone.

    tools/dist_train.sh configs/tinymim/ablations/relations_vv.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(losses=[dict(type='mmtinyvit.RelationDistillationLoss', relations=['vv'])])
