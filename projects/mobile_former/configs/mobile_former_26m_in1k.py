"""Mobile-Former-26M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2108.05895), 450 epochs.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_26m_in1k.py 8 --amp

RandAugment, Mixup 0.2, no erasing.
Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 64.0 top-1.
"""
_base_ = 'mobile_former_294m_in1k.py'

model = dict(
    backbone=dict(arch='26m'),
    head=dict(in_channels=96, token_dims=128, hidden_channels=1024, groups=4, dropout=0.1))
optim_wrapper = dict(optimizer=dict(lr=8e-4, weight_decay=0.08))

view_transforms = _base_.view_transforms[:3]
replay = dict(_base_.replay, transforms=view_transforms)
pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
