"""Digits on images of 96 x 96 pixels, in COCO's layout, and a short schedule. `make demo DETECT=1` writes them."""
_base_ = 'mmdet::_base_/default_runtime.py'

data_root = 'work_dirs/demo/canvases/'
data_source = ('write the images with `python tools/dataset_converters/digit_canvases.py work_dirs/demo/digits '
               'work_dirs/demo/canvases`.')
classes = tuple('0123456789')
iterations = 300

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),  # images keep their size; tests need its scale_factor
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True, seed=0),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='annotations/train.json', data_prefix=dict(img='train/'),
        metainfo=dict(classes=classes), pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='annotations/val.json', data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes), pipeline=test_pipeline, test_mode=True))
test_evaluator = val_evaluator = dict(
    type='CocoMetric', ann_file=f'{data_root}annotations/val.json', metric='bbox')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=30, end=iterations),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=100)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=1),
    host_memory=dict(type='mmtinyvit.HostMemoryHook'))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0, deterministic=False)
