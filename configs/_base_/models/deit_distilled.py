# DeiT-Ti with the distillation token and its head; half of the loss is the teacher's first class.
_base_ = 'deit.py'
model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(type='mmtinyvit.DistilledDeiT'),
    head=dict(type='mmtinyvit.DeiTDistillHead'),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)
