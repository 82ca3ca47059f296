"""Mobile-Former-214M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2108.05895), 450 epochs.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_214m_in1k.py 8 --amp

RandAugment, erasing 0.2, Mixup 0.2.
Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 76.7 top-1.
"""
_base_ = 'mobile_former_294m_in1k.py'

model = dict(
    backbone=dict(arch='214m'),
    head=dict(in_channels=160, token_dims=192, hidden_channels=1600, dropout=0.2))
optim_wrapper = dict(optimizer=dict(lr=9e-4, weight_decay=0.15))
