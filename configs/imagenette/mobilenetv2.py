"""The real teacher by itself: MobileNetV2, trained on ImageNet-1K, on Imagenette's ten classes at 160 pixels.

    python tools/test.py configs/imagenette/mobilenetv2.py MOBILENETV2.pth
"""
_base_ = 'data.py'

model = dict(type='TimmClassifier', model_name='mobilenetv2_100', pad_type='same', pretrained=False)
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, input_size=160)
test_evaluator = val_evaluator = dict(
    _delete_=True, type='mmtinyvit.MappedAccuracy', num_classes='in1k', topk=(1, ))
train_dataloader = train_cfg = optim_wrapper = param_scheduler = None
