"""TinyMIM-T from MAE ViT-B by the relation QQ alone.

    tools/dist_train.sh configs/tinymim/ablations/relations_qq.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(losses=[dict(type='mmtinyvit.RelationDistillationLoss', relations=['qq'])])
