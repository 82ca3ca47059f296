"""The demo's student: a TinyViT of 0.4 million parameters."""
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmtinyvit.TinyViT',
        arch=dict(embed_dims=(32, 48, 64, 96), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 3), window_sizes=(7, 4, 4, 4))),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=96, loss=dict(type='CrossEntropyLoss')))
