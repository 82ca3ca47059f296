"""COCO-Stuff 10k, 171 classes: 9,000 photos to train on and 1,000 to test on, with the views of ADE20K."""
_base_ = '../../../../configs/_base_/segmentation/ade20k.py'

data_source = ('get COCO-Stuff 10k as mmsegmentation says (its dataset_prepare.md), so that '
               'data/coco_stuff10k/{images,annotations}/{train2014,test2014}/ are there, or link it.')
train_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset', data_root='data/coco_stuff10k', reduce_zero_label=True,
        data_prefix=dict(img_path='images/train2014', seg_map_path='annotations/train2014')))
test_dataloader = val_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset', data_root='data/coco_stuff10k', reduce_zero_label=True,
        data_prefix=dict(img_path='images/test2014', seg_map_path='annotations/test2014')))
