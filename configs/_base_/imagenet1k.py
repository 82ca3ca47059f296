"""What the recipes on ImageNet share: the images, the views of 224 pixels, the test, and the runtime.

A recipe adds its model, its schedule and, if it is a student, its store. It restates what it changes.

The augmentation is the original's: random resized crop, flip, rand-m9-mstd0.5-inc1 and erasing by noise, all bicubic.
Its configuration also names colour jitter 0.4, but like timm it applies that only without RandAugment, so it never
ran. Two things differ from the original: erasing happens before normalisation, so that teacher and student may
normalise differently, which clips the noise to 0 ... 255; and RandAugment's operations are mmpretrain's.

The runtime is mmpretrain's, written out; seeds reach everything outside the replayed views too, and a run on the CPU
keeps its memory from step to step.
"""
# ---------------------------------------------------------------- images and views
image_size = 224
data_root = 'data/imagenet/'
data_source = ('get ImageNet-1K (ILSVRC 2012) from https://image-net.org/download-images and unpack it into '
               'data/imagenet/{train,val}/<synset>/, or link that folder there.')

data_preprocessor = dict(num_classes=1000, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
bgr_mean, bgr_std = data_preprocessor['mean'][::-1], data_preprocessor['std'][::-1]  # images are BGR until then

view_transforms = [
    dict(type='mmtinyvit.RandomResizedCrop', scale=image_size, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmtinyvit.RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
         magnitude_level=9, magnitude_std=0.5,
         hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic')),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=bgr_mean, fill_std=bgr_std),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=image_size * 256 // 224, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmtinyvit.ImageNet', data_root=data_root, split='train', source=data_source,
                 pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmtinyvit.ImageNet', data_root=data_root, split='val', source=data_source,
                 pipeline=test_pipeline))
test_dataloader = val_dataloader
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1, 5))

# ---------------------------------------------------------------- runtime
default_scope = 'mmpretrain'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmtinyvit.VisualizationHook', enable=False),
    host_memory=dict(type='mmtinyvit.HostMemoryHook'))
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
