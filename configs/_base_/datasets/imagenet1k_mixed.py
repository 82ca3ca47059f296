"""ImageNet-1K with Mixup and CutMix, images and labels: partners follow from the view's name, and can be replayed."""
_base_ = 'imagenet1k.py'

data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(sampler=dict(type='mmtinyvit.PairedSampler'))
