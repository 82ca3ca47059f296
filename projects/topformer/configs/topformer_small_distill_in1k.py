"""TopFormer-S distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh projects/topformer/configs/topformer_small_distill_in1k.py 8 --amp

The store and the schedule are those of TinyViT.
Cost and result: not run here, and none published.
"""
_base_ = '../../../configs/tinyvit/tiny_vit_21m_distill_in1k.py'
custom_imports = dict(imports=['projects.topformer.topformer'])

model = dict(
    _delete_=True,
    type='mmtinyvit.DistillClassifier',
    backbone=dict(type='mmtinyvit.TopFormer', arch='small', pool_stride=1, inject=False),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=296, affine=True, eps=1e-5),
    ],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=296,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='Normal', layer='Linear', std=.01, bias=0.)))
