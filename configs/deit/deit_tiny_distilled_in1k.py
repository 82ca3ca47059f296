"""DeiT-Ti distilled on ImageNet-1K with the token, from RegNetY-16GF beside it (https://arxiv.org/abs/2012.12877).

    tools/dist_train.sh configs/deit/deit_tiny_distilled_in1k.py 8 --amp

Hard distillation, half of the loss. The teacher sees the very batch that the student sees, mixed images included, and
timm downloads its weights. Another teacher, convolutional or a transformer, is another `model_name`.

mmpretrain has a config of this name that can only test: its head has no distillation loss. Beyond the differences that
deit_tiny_in1k.py lists, the distillation token takes no weight decay here.

Cost: not run here; the original used 16 GPUs for DeiT-B. The teacher costs 16 GMACs per image, the student 1.3.
Result: not run here; published: 74.5 top-1.
"""
_base_ = 'deit_tiny_in1k.py'

model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(type='mmtinyvit.DistilledDeiT'),
    head=dict(type='mmtinyvit.DeiTDistillHead'),
    teacher=dict(model=dict(type='mmpretrain.TimmClassifier', model_name='regnety_160.deit_in1k', pretrained=True)),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)
