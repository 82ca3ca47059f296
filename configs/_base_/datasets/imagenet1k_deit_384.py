"""ImageNet-1K at 384 pixels for DeiT: like imagenet1k_deit.py, tested on the centre of 438 pixels as the original."""
_base_ = 'imagenet1k_deit.py'

image_size = 384
view_transforms = _base_.view_transforms
view_transforms[0].scale = image_size
replay = dict(transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), {**_base_.replay, **replay}, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=438, edge='short', backend='pillow', interpolation='bicubic'),  # 384 / 0.875
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
