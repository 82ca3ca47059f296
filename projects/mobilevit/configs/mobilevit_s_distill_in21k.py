"""MobileViT-S distilled on ImageNet-21K from CLIP-ViT-L/14, 90 epochs, top 100.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_s_distill_in21k.py 8 --amp

The views are those of the store, 224 pixels wide, enlarged to 256 on the device. Images are BGR and divided by 255.
Cost and result: not run here, and none published. The store and the schedule are those of TinyViT, whose paper
distils other small transformers with them too.
"""
_base_ = '../../../configs/tinyvit/distill_in21k.py'
custom_imports = dict(imports=['projects.mobilevit.mobilevit'])

model = dict(
    _delete_=True,
    type='mmtinyvit.DistillClassifier',
    backbone=dict(type='mmtinyvit.MobileViT', arch='small'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=21841, in_channels=640,
        loss=dict(type='mmpretrain.CrossEntropyLoss')))
data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False, input_size=256)
