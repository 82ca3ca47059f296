"""A linear classifier of ImageNet-1K on the frozen features of TinyViT-21M.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_linear_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_distill_in21k/epoch_90.pth

The head starts anew, whatever head the checkpoint has. Other folders of images: docs/en/finetuning.md.
Cost and result: not run here.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch='21m', drop_path_rate=0., frozen_stages=4),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=576,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
custom_hooks = [
    dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.NewHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook', fresh=('head.', ))
]

# ---------------------------------------------------------------- views: random crops and flips alone
view_transforms = _base_.view_transforms[:2]
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# ---------------------------------------------------------------- schedule
# The usual protocol for vision transformers; the rate is per 256 images and follows the total batch by itself.
epochs = 100
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0., end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
