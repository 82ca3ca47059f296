"""The store of the ImageNet-1K recipes: what configs/teachers/ writes and configs/tinyvit/ reads.

300 views of 1,281,167 images, the top 10 of 1,000 classes.
"""
_base_ = '../datasets/imagenet1k.py'

store = 'data/in1k_logits'
num_views = 300
topk = 10

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits', store=store),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook', topk=topk)]
