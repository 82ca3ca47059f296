"""COCO 2017, boxes and masks, with the short side drawn from 480 to 800 pixels in training and 800 in tests."""
_base_ = ['mmdet::_base_/datasets/coco_instance.py', 'mmdet::_base_/default_runtime.py']

data_source = ('get the 2017 images and annotations from https://cocodataset.org/#download and unpack them into '
               'data/coco/{train2017,val2017,annotations}/, or link that folder there.')
scales = [(side, 1333) for side in range(480, 801, 32)]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoiceResize', scales=scales, keep_ratio=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(host_memory=dict(type='mmtinyvit.HostMemoryHook'))
randomness = dict(seed=0, deterministic=False)
