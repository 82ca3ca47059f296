"""ImageNet-1K with labels, Mixup 0.8 and CutMix 1.0 as a part of the view's name: for finetuning without a teacher."""
_base_ = 'imagenet1k.py'

data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(sampler=dict(_delete_=True, type='mmtinyvit.PairedSampler'))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
