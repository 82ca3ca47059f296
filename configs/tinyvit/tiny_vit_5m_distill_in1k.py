"""TinyViT-5M distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh configs/tinyvit/tiny_vit_5m_distill_in1k.py 8 --amp

Cost and result: not run here, and none published. The original names the setting (K = 10, 300 views) but gives no
recipe for it; the schedule and the drop path rate are those of its training on ImageNet-1K with labels.
"""
_base_ = 'tiny_vit_21m_distill_in1k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
