"""scikit-learn's digits as images of 32 x 32 pixels: real handwriting, 1,297 to learn from and 500 to test on.

The data, the views, the schedule and the runtime that the other configs of this folder share. `make demo` writes the
images with tools/dataset_converters/digits.py.
"""
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
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=data_root, data_prefix='val', pipeline=test_pipeline))
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1, ))

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()

default_scope = 'mmpretrain'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=1),
    visualization=dict(type='mmtinyvit.VisualizationHook', enable=False),
    host_memory=dict(type='mmtinyvit.HostMemoryHook'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
load_from = None
randomness = dict(seed=0, deterministic=False)
