"""Pascal Context, 59 classes without the background: crops of 480 pixels, tested at 520."""
_base_ = '../../../../configs/_base_/segmentation/ade20k.py'

data_source = ('get VOC 2010 and the annotations of Pascal Context as mmsegmentation says (its dataset_prepare.md), '
               'so that data/VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext,ImageSets}/ are there, or link it.')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(520, 520), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(480, 480), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(520, 520), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
folders = dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext')
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='PascalContextDataset59', data_root='data/VOCdevkit/VOC2010', data_prefix=folders,
        ann_file='ImageSets/SegmentationContext/train.txt', pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(
    dataset=dict(
        _delete_=True, type='PascalContextDataset59', data_root='data/VOCdevkit/VOC2010', data_prefix=folders,
        ann_file='ImageSets/SegmentationContext/val.txt', pipeline=test_pipeline))
