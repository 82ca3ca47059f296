"""TinyMIM-T from MAE ViT-B by the relations QQ, KK, VV alone.

    tools/dist_train.sh configs/tinymim/ablations/relations_qq_kk_vv.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

model = dict(losses=[dict(type='mmtinyvit.RelationDistillationLoss', relations=['qq', 'kk', 'vv'])])
