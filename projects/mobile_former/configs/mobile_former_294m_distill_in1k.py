"""Mobile-Former-294M distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_294m_distill_in1k.py 8 --amp

Cost and result: not run here, and none published. The store and the schedule are those of TinyViT.
"""
_base_ = [
    '_base_/model.py', '../../../configs/_base_/stores/in1k_top10.py', '../../../configs/_base_/schedules/in1k_300e.py',
    '../../../configs/_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier')
