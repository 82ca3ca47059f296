"""TinyViT-5M with DeiT's two heads on its pooled features, hard-distilled from a store of RegNetY-16GF.

    tools/dist_train.sh configs/deit/tiny_vit_5m_two_heads_in1k_store.py 8 --amp

The counterpart of configs/tinyvit/tiny_vit_5m_distill_in1k_mixup.py, to compare hard labels of a teacher with soft ones
on the same network. For soft targets, `distill=dict(type='mmtinyvit.SoftDistillationLoss', temperature=1.)`.

Cost and result: not run here, and none published.
"""
_base_ = '../tinyvit/tiny_vit_21m_distill_in1k.py'

model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(arch='5m', drop_path_rate=0.),
    head=dict(
        _delete_=True,
        type='mmtinyvit.DeiTDistillHead',
        num_classes=1000,
        in_channels=320,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)
store = 'data/in1k_regnety_160_mixed_logits'
mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing)
train_dataloader = dict(sampler=dict(type='mmtinyvit.PairedSampler'))
