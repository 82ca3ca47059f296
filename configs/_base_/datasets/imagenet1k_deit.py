"""ImageNet-1K as DeiT is trained on it: the views of imagenet1k.py, three of an image in each epoch, Mixup and CutMix.

Repeated augmentation: an epoch has as many views as there are images, three of every third image. In one process, as
in the original, an epoch has one view of every image. Mixup or CutMix, one of them drawn for each batch.
"""
_base_ = 'imagenet1k.py'

data_preprocessor = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
train_dataloader = dict(
    drop_last=True,
    sampler=dict(type='mmtinyvit.RepeatAugSampler', num_repeats=3),
    dataset=dict(
        _delete_=True, type='mmtinyvit.RepeatedViews', num_repeats=3, dataset=_base_.train_dataloader.dataset))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
