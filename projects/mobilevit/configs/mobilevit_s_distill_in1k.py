"""MobileViT-S distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_s_distill_in1k.py 8 --amp

The views are those of the store, 224 pixels wide, enlarged to 256 on the device: at 224 the last stage would have to
resize its maps of 7 x 7 pixels for its patches of 2 x 2. Images are BGR and divided by 255.
Cost and result: not run here, and none published. The store and the schedule are those of TinyViT.
"""
_base_ = '../../../configs/tinyvit/tiny_vit_21m_distill_in1k.py'
custom_imports = dict(imports=['projects.mobilevit.mobilevit'])

model = dict(
    _delete_=True,
    type='mmtinyvit.DistillClassifier',
    backbone=dict(type='mmtinyvit.MobileViT', arch='small'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=640,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False, input_size=256)
