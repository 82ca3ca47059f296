# TopFormer-T (https://arxiv.org/abs/2204.05525) as a classifier: tokens at stride 32, pooled, BatchNorm, linear.
custom_imports = dict(imports=['projects.topformer.topformer'])

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TopFormer', arch='tiny', pool_stride=1, inject=False),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=208, affine=True, eps=1e-5),
    ],
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=208,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='Normal', layer='Linear', std=.01, bias=0.)))
