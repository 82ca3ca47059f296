"""A real teacher on real photos: MobileNetV2, trained on ImageNet-1K, top 10 of 1,000 classes, four views.

The teacher sees each view at 160 pixels; the student gets the same view at 96.

    python tools/save_logits.py configs/imagenette/save_logits.py MOBILENETV2.pth
"""
_base_ = 'data.py'

model = dict(type='TimmClassifier', model_name='mobilenetv2_100', pad_type='same', pretrained=False)
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, input_size=160)
test_dataloader = dict(
    _delete_=True,
    batch_size=64,
    num_workers=1,
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=_base_.data_root, data_prefix='train',
                 pipeline=_base_.train_pipeline))
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', views=(0, _base_.num_views), topk=10, classes='in1k')
