"""ADE20K as TopFormer is tested on it: the sides of the photos are rounded up to multiples of 32."""
_base_ = '../../../../configs/_base_/segmentation/ade20k.py'

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='ResizeToMultiple', size_divisor=32),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
test_dataloader = val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
