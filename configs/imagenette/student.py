"""A small TinyViT for 96 pixels."""
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmtinyvit.TinyViT',
        arch=dict(
            embed_dims=(32, 64, 96, 160), depths=(1, 1, 3, 1), num_heads=(1, 2, 3, 5), window_sizes=(7, 6, 6, 3))),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=160, loss=dict(type='CrossEntropyLoss')))
