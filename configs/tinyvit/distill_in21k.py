"""The main recipe of TinyViT (https://arxiv.org/abs/2207.10666): TinyViT-21M distilled on ImageNet-21K, 90 epochs.

    python tools/train.py configs/tinyvit/distill_in21k.py
    tools/dist_train.sh configs/tinyvit/distill_in21k.py 8 --amp

The teacher is CLIP-ViT-L/14, finetuned on ImageNet-21K; configs/teachers/clip_vit_l14_in21k.py writes its top 100 of
21,841 classes for 90 views of every image. No label is read, so that the classes of the images do not matter: those of
winter 2021 serve as well as the 14,197,122 of fall 2011, and so do images without labels. Validation is on ImageNet-1K.

Cost: not run here; the original used 32 GPUs (4 x 8) with 128 images each.
Result: not run here; published: 84.8 top-1 on ImageNet-1K at 224 pixels, after finetuning there.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
num_classes = 21841
model = dict(
    type='mmtinyvit.DistillClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=num_classes,
        in_channels=576,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))

# ---------------------------------------------------------------- store: --cfg-options store=/data/in21k_logits
store = 'data/in21k_logits'
mode = 'stored'  # every record is read; no teacher is built
num_views = 90  # one for each epoch
topk = 100
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook', topk=topk)]

# ---------------------------------------------------------------- images, listed once by index_images.py, and views
# In folders, tars, zips or shards, here or in a bucket: docs/en/data.md. They may have any classes, or none.
data_root = 'data/imagenet21k/'
data_source = ('get ImageNet-21K (winter21_whole.tar.gz) from https://image-net.org/download-images, gunzip it into '
               'data/imagenet21k, list its images with `python tools/dataset_converters/index_images.py '
               'data/imagenet21k --check`, and put ImageNet-1K into data/imagenet for validation. Any other images '
               'will do too, in folders or archives, with or without labels.')
data_preprocessor = dict(num_classes=num_classes)

bgr_mean, bgr_std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]  # images are BGR until they are normalised
view_transforms = [  # those of imagenet1k.py
    dict(type='mmtinyvit.RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmtinyvit.RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
         magnitude_level=9, magnitude_std=0.5,
         hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic')),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=bgr_mean, fill_std=bgr_std),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]  # the teacher's
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        _delete_=True,
        type='mmtinyvit.IndexedImages',
        data_root=data_root,
        ann_file='images.index',
        source=data_source,
        pipeline=[*train_pipeline[:-1], dict(type='mmtinyvit.LoadTeacherLogits'), train_pipeline[-1]]))
test_evaluator = val_evaluator = dict(  # 21,841 classes are judged on the 1,000 through the class map
    _delete_=True, type='mmtinyvit.MappedAccuracy', num_classes=num_classes, topk=(1, 5))

# ---------------------------------------------------------------- schedule
# The rate is per 512 images and follows the total batch by itself (2e-3 at the original's 32 x 128); its first and last
# values are shares of it. The cosine counts from the first epoch on, as in the original, and the warm-up multiplies it.
# With accumulation over n batches, set auto_scale_lr.base_batch_size to 512 / n.
epochs = 90
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2.5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(  # no weight decay on attention biases (the original's rule), nor on any other bias or norm
        bias_decay_mult=0., norm_decay_mult=0., custom_keys={'attention_biases': dict(decay_mult=0.)}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 2.5e-4, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-6 / 2.5e-4, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
