"""MobileViT-XXS trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2110.02178), 300 epochs.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_xxs_in1k.py 8 --amp

Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 69.0 top-1 at 256 pixels.
"""
_base_ = 'mobilevit_s_in1k.py'

model = dict(backbone=dict(arch='xx_small'), head=dict(in_channels=320))
