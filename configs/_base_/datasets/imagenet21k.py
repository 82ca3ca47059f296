"""ImageNet-21K (release fall 2011: 14,197,122 images, 21,841 classes) to train on, ImageNet-1K to validate on.

The images are listed once by tools/dataset_converters/index_images.py, in class folders or in the per-class zip files
of the original; the views are those of imagenet1k.py. The 21,841-way head is judged on the 1,000 classes through the
class map.
"""
_base_ = 'imagenet1k.py'

data_root = 'data/imagenet21k/'
data_source = ('get ImageNet-21K (release fall 2011) from https://image-net.org/download-images, put one folder or zip '
               'file per synset into data/imagenet21k, list them with `python tools/dataset_converters/index_images.py '
               'data/imagenet21k --classes imagenet-22k`, and put ImageNet-1K into data/imagenet for validation.')

data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmtinyvit.IndexedImages',
        data_root=data_root,
        ann_file='images.index',
        num_classes=21841,
        source=data_source,
        pipeline=_base_.train_pipeline))
test_evaluator = val_evaluator = dict(_delete_=True, type='mmtinyvit.MappedAccuracy', num_classes=21841, topk=(1, 5))
