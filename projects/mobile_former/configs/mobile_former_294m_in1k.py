"""Mobile-Former-294M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2108.05895), 450 epochs.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_294m_in1k.py 8 --amp

RandAugment, erasing 0.2, Mixup 0.2.
Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 77.9 top-1.
"""
_base_ = '../../../configs/_base_/imagenet1k.py'
custom_imports = dict(imports=['projects.mobile_former.mobile_former'])

# ---------------------------------------------------------------- model
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmtinyvit.MobileFormer', arch='294m'),
    head=dict(
        type='mmtinyvit.MobileFormerClsHead',
        num_classes=1000,
        in_channels=192,
        token_dims=192,
        hidden_channels=1920,
        dropout=0.3,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))

# ---------------------------------------------------------------- views: erasing 0.2; Mixup 0.2, which can be replayed
# RandAugment is mmpretrain's, whose strengths all rise with the level.
view_transforms = _base_.view_transforms
view_transforms[3].erase_prob = 0.2
replay = dict(_base_.replay, transforms=view_transforms)
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.2, cutmix_alpha=0., switch_prob=0.))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='mmtinyvit.PairedSampler'),
    dataset=dict(pipeline=[dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]

# ---------------------------------------------------------------- schedule
# The rate is that of 1,024 images and follows the total batch by itself. A variant sets the rate and the weight decay.
# Warm-up and last rate are not published: here 5 epochs from a thousandth of the rate, and down to a hundredth.
epochs = 450
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.20),
    paramwise_cfg=dict(bias_decay_mult=0., norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-2, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=1024)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
