# DeiT-Ti at 224 px (https://arxiv.org/abs/2012.12877); the recipe sets arch and width for the larger ones.
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.DeiT', arch='deit-tiny', img_size=224, drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
