"""Mobile-Former-294M distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_294m_distill_in1k.py 8 --amp

Cost and result: not run here, and none published. The store and the schedule are those of TinyViT.
"""
_base_ = '../../../configs/tinyvit/tiny_vit_21m_distill_in1k.py'
custom_imports = dict(imports=['projects.mobile_former.mobile_former'])

model = dict(
    _delete_=True,
    type='mmtinyvit.DistillClassifier',
    backbone=dict(type='mmtinyvit.MobileFormer', arch='294m'),
    head=dict(
        type='mmtinyvit.MobileFormerClsHead',
        num_classes=1000,
        in_channels=192,
        token_dims=192,
        hidden_channels=1920,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))
