"""ImageNet-1K as Mobile-Former is trained on it: RandAugment, erasing 0.2, Mixup 0.2, label smoothing 0.1.

Mixup belongs to the view's name and can be replayed. RandAugment is mmpretrain's, whose strengths all rise with the
level.
"""
_base_ = '../../../../configs/_base_/datasets/imagenet1k_mixed_labels.py'

data_preprocessor = dict(mixing=dict(mixup_alpha=0.2, cutmix_alpha=0., switch_prob=0.))
view_transforms = _base_.view_transforms
view_transforms[3].erase_prob = 0.2
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]))
