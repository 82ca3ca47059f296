# TinyViT-11M at 224 px (https://arxiv.org/abs/2207.10666). The recipe sets the drop path rate and the classes.
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='11m', drop_path_rate=0.),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=448,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
