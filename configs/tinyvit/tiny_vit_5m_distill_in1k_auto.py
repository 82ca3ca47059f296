"""TinyViT-5M on ImageNet-1K with the teacher at hand: reads the views that are stored, and asks and stores the others.

    tools/dist_train.sh configs/tinyvit/tiny_vit_5m_distill_in1k_auto.py 8 --amp

The store, the views and the losses are those of tiny_vit_5m_distill_in1k.py. `mode` may also be `online` (no store) or
`stored` (no teacher): --cfg-options mode=online
Cost: not run here; a view that is not stored costs one forward pass of the teacher per image.
Result: not run here.
"""
_base_ = 'tiny_vit_21m_distill_in1k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
mode = 'auto'
custom_hooks = [
    dict(type='mmtinyvit.CacheLogitsHook', teacher_model='configs/teachers/timm_in1k.py', topk=_base_.topk,
         views=list(range(_base_.num_views)))
]
