"""DeiT-S distilled on ImageNet-1K with the token, from RegNetY-16GF beside it (https://arxiv.org/abs/2012.12877).

    tools/dist_train.sh configs/deit/deit_small_distilled_in1k.py 8 --amp

Cost: not run here; the original used 16 GPUs for DeiT-B.
Result: not run here; published: 81.2 top-1.
"""
_base_ = 'deit_tiny_in1k.py'

model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(type='mmtinyvit.DistilledDeiT', arch='deit-small'),
    head=dict(type='mmtinyvit.DeiTDistillHead', in_channels=384),
    teacher=dict(model=dict(type='mmpretrain.TimmClassifier', model_name='regnety_160.deit_in1k', pretrained=True)),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)
