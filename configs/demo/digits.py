"""scikit-learn's digits as images of 32 x 32 pixels: real handwriting, 1,297 to learn from and 500 to test on.

The data, the views and the schedule that the other configs of this folder share. `make demo` writes the images with
tools/dataset_converters/digits.py.
"""
_base_ = [
    '../_base_/loaders/small_folders.py',
    '../_base_/schedules/small_adamw.py',
    '../_base_/default_runtime.py',
]

data_root = 'work_dirs/demo/digits/'
data_source = 'write the images with `python tools/dataset_converters/digits.py work_dirs/demo/digits`.'
num_classes = 10
store = 'work_dirs/demo/store'
num_views = 10
epochs = 20

data_preprocessor = dict(num_classes=num_classes, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

view_transforms = [
    dict(type='mmtinyvit.RandomResizedCrop', scale=32, crop_ratio_range=(0.6, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4),
    dict(type='RandomErasing', erase_prob=0.25, mode='const', min_area_ratio=0.02, max_area_ratio=0.2,
         fill_color=(0, 0, 0), fill_std=None),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)

train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')]

train_dataloader = dict(
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(
    batch_size=250,
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=data_root, data_prefix='val', pipeline=test_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=5)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10), checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=1))
