"""CLIP-ViT-L/14 finetuned on ImageNet-21K, the teacher of TinyViT (https://arxiv.org/abs/2207.10666).

90 views of every image, top 100. The images may have any classes, or none.

    tools/dist_save_logits.sh configs/teachers/clip_vit_l14_in21k.py 8 \
        checkpoints/clip_vit_large_patch14_22k_mmtinyvit.pth --amp

Cost: not run here. 1.28 billion forward passes; the size of the store is in docs/en/store_format.md.
Result: not run here; published: 85.9 top-1 on ImageNet-1K through the class map, without finetuning there.
"""
_base_ = 'clip_vit_l14_in21k_test.py'

store = 'data/in21k_logits'
num_views = 90
topk = 100
data_root = 'data/imagenet21k/'
data_source = ('get ImageNet-21K (winter21_whole.tar.gz) from https://image-net.org/download-images, gunzip it into '
               'data/imagenet21k, list its images with `python tools/dataset_converters/index_images.py '
               'data/imagenet21k --check`, and put ImageNet-1K into data/imagenet for validation. Any other images '
               'will do too, in folders or archives, with or without labels.')
test_dataloader = dict(
    _delete_=True,
    batch_size=256,
    num_workers=16,
    dataset=dict(
        type='mmtinyvit.IndexedImages',
        data_root=data_root,
        ann_file='images.index',
        source=data_source,
        pipeline=_base_.train_pipeline))
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', views=(0, num_views), topk=topk, classes='fall11')
