"""DeiT-S on ImageNet-1K, 300 epochs (https://arxiv.org/abs/2012.12877): the recipe of deit_tiny_in1k.py.

    tools/dist_train.sh configs/deit/deit_small_in1k.py 8 --amp

What differs from mmpretrain's deit-small_4xb256_in1k.py is listed there.
Cost: not run here; the original used one node of 4 GPUs with 256 images each.
Result: not run here; published: 79.9 top-1.
"""
_base_ = 'deit_tiny_in1k.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
