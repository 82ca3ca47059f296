"""TinyViT-21M distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_distill_in1k.py 8 --amp

Cost and result: not run here, and none published. The original names the setting (K = 10, 300 views) but gives no
recipe for it; the schedule and the drop path rate are those of its training on ImageNet-1K with labels.
"""
_base_ = [
    '../_base_/models/tinyvit_21m.py', '../_base_/stores/in1k_top10.py', '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier', backbone=dict(drop_path_rate=0.2))
