"""ImageNet-1K as MobileViT is trained on it: crops of five sizes and flips; 256 of 288 pixels to test on.

One batch has one size, drawn by its name, and the fewer images the larger they are. 1,024 images in a step at 256
pixels on 8 GPUs are 2,616 at 160 and 648 at 320.
"""
_base_ = '../../../../configs/_base_/datasets/imagenet1k.py'

data_preprocessor = dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)
image_size = 256
view_transforms = [
    dict(type='mmtinyvit.SizedRandomResizedCrop', scale=image_size, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=288, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_sampler=dict(type='mmtinyvit.MultiScaleBatchSampler', sides=(160, 192, 256, 288, 320), base_side=image_size),
    dataset=dict(
        _delete_=True, type='mmtinyvit.SizedViews',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
