"""DeiT-B on ImageNet-1K, 300 epochs (https://arxiv.org/abs/2012.12877): the recipe of deit_tiny_in1k.py.

    tools/dist_train.sh configs/deit/deit_base_in1k.py 8 --amp

mmpretrain's deit-base_16xb64_in1k.py has stochastic depth and averaged weights too; the other differences are the same.
Cost: not run here; the original used 16 GPUs (2 x 8) with 64 images each.
Result: not run here; published: 81.8 top-1.
"""
_base_ = 'deit_tiny_in1k.py'

model = dict(backbone=dict(arch='deit-base'), head=dict(in_channels=768))
