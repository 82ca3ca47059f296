"""ImageNet-1K at 224 pixels for TinyMIM: the teacher's view and the student's, without labels.

Both see the same random resized crop and flip; colours are jittered for the student alone. All of it is replayed: a
run that is stopped and resumed sees the same pairs.
"""
_base_ = '../datasets/imagenet1k.py'

data_preprocessor = dict(
    _delete_=True, type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
    to_rgb=True)

view_transforms = [
    dict(type='mmtinyvit.RandomResizedCrop', scale=_base_.image_size, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='MultiView', num_views=[1, 1], transforms=[
        [],  # the teacher's
        [dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)],
    ]),
]
replay = dict(transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), {**_base_.replay, **replay}, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = val_evaluator = test_dataloader = test_evaluator = None
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
