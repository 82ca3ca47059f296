# Mobile-Former-294M (https://arxiv.org/abs/2108.05895) with 1,000 classes; the recipe sets the variant.
custom_imports = dict(imports=['projects.mobile_former.mobile_former'])

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.MobileFormer', arch='294m'),
    head=dict(
        type='mmtinyvit.MobileFormerClsHead',
        num_classes=1000,
        in_channels=192,
        token_dims=192,
        hidden_channels=1920,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))
