"""The store of the ImageNet-21K recipes: what configs/teachers/ writes and configs/tinyvit/ reads.

90 views of 14,197,122 images, the top 100 of 21,841 classes.
"""
_base_ = '../datasets/imagenet21k.py'

store = 'data/in21k_logits'
num_views = 90
topk = 100

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits', store=store),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook', topk=topk)]
