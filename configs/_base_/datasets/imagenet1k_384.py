"""ImageNet-1K at 384 pixels. The test image is resized to the square as a whole, without a crop, as in the original."""
_base_ = 'imagenet1k.py'

image_size = 384
view_transforms = _base_.view_transforms
view_transforms[0].scale = image_size
replay = dict(transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), {**_base_.replay, **replay}, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='Resize', scale=(image_size, image_size), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
