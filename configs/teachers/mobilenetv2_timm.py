"""A small real teacher on real photos: timm's MobileNetV2 1.0 on imagenette96, 3 views, top 10 of 1,000 classes.

    export MMTINYVIT_DATA=...  # holds imagenette96/{train,val}/<synset>/ and teacher_mobilenetv2/
    python tools/save_logits.py configs/teachers/mobilenetv2_timm.py \
        $MMTINYVIT_DATA/teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth --out work_dirs/imagenette_logits

`pad_type='same'` is what these weights were trained with. The photos are 96 pixels wide; the views enlarge them to 160,
since the teacher was trained at 224. All 1,000 classes are kept, so the student's head has 1,000 outputs too.
"""
_base_ = '../_base_/default_runtime.py'

data_root = '{{$MMTINYVIT_DATA:data}}/imagenette96/'
data_source = ('set the environment variable MMTINYVIT_DATA to the folder that holds imagenette96/, ten classes of '
               'ImageNet with 750 + 250 photos each, 96 x 96 pixels (from https://github.com/fastai/imagenette).')
image_size = 160

view_transforms = [
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.25, 1.0), backend='pillow',
         interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)

model = dict(
    type='TimmClassifier',
    model_name='mobilenetv2_100',
    pad_type='same',
    pretrained=False,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True))

test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        type='mmtinyvit.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        source=data_source,
        pipeline=[dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]))
test_evaluator = dict(type='Accuracy')
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', store='work_dirs/imagenette_logits', views=(0, 3), topk=10)
