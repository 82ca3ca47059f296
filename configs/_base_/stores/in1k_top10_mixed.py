"""The store of the ImageNet-1K recipes with Mixup and CutMix: the teacher saw the mixed images.

300 views of 1,281,167 images, the top 10 of 1,000 classes, and with each record the name of the mixing partner.
"""
_base_ = 'in1k_top10.py'

store = 'data/in1k_mixed_logits'
mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)

data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing)
train_dataloader = dict(
    sampler=dict(type='mmtinyvit.PairedSampler'),
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits', store=store),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
