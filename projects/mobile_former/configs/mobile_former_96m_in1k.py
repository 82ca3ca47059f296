"""Mobile-Former-96M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2108.05895), 450 epochs.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_96m_in1k.py 8 --amp

RandAugment, no erasing, no Mixup.
Cost: not run here; the original used a total batch of 1,024.
Result: not run here; published: 72.8 top-1.
"""
_base_ = 'mobile_former_294m_in1k.py'

model = dict(
    backbone=dict(arch='96m'),
    head=dict(in_channels=128, token_dims=128, hidden_channels=1280, dropout=0.2))
optim_wrapper = dict(optimizer=dict(lr=8e-4, weight_decay=0.1))

data_preprocessor = dict(mixing=None)
view_transforms = _base_.view_transforms[:3]
replay = dict(_base_.replay, transforms=view_transforms)
pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True), dataset=dict(pipeline=pipeline))
