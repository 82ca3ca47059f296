"""TopFormer-S distilled on ImageNet-21K from CLIP-ViT-L/14, 90 epochs, top 100.

    tools/dist_train.sh projects/topformer/configs/topformer_small_distill_in21k.py 8 --amp

The store and the schedule are those of TinyViT.
Cost and result: not run here, and none published.
"""
_base_ = '../../../configs/tinyvit/distill_in21k.py'
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
        num_classes=21841,
        in_channels=296,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='Normal', layer='Linear', std=.01, bias=0.)))
