# MobileViT-S (https://arxiv.org/abs/2110.02178) with 1,000 classes.
custom_imports = dict(imports=['projects.mobilevit.mobilevit'])

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.MobileViT', arch='small'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=640,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))
