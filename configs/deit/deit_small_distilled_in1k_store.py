"""DeiT-S distilled on ImageNet-1K with the token, from a store of RegNetY-16GF on mixed images.

    tools/dist_train.sh configs/deit/deit_small_distilled_in1k_store.py 8 --amp

Cost and result: not run here, and none published.
"""
_base_ = 'deit_tiny_distilled_in1k_store.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
