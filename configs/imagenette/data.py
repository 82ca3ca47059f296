"""Imagenette at 96 pixels: ten classes of ImageNet, real photos. What the configs of this folder share.

The folder is that of the environment variable MMTINYVIT_DATA, with imagenette96/{train,val}/<synset>/*.JPEG in it.
"""
data_root = '{{$MMTINYVIT_DATA:data}}/imagenette96/'
data_source = 'Imagenette (github.com/fastai/imagenette) goes there; set MMTINYVIT_DATA to the folder above it.'
store = 'work_dirs/imagenette/store'
num_views = 4
epochs = 20

data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

replay = dict(
    type='mmtinyvit.SeededAugment',
    transforms=[
        dict(type='mmtinyvit.RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    ])
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
    batch_size=125,
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
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, end=epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()

default_scope = 'mmpretrain'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=1),
    visualization=dict(type='mmtinyvit.VisualizationHook', enable=False),
    host_memory=dict(type='mmtinyvit.HostMemoryHook'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
load_from = None
randomness = dict(seed=0, deterministic=False)
