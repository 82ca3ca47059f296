"""TopFormer-S distilled on ImageNet-1K from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh projects/topformer/configs/topformer_small_distill_in1k.py 8 --amp

The store and the schedule are those of TinyViT.
Cost and result: not run here, and none published.
"""
_base_ = [
    '_base_/classifier_small.py', '../../../configs/_base_/stores/in1k_top10.py',
    '../../../configs/_base_/schedules/in1k_300e.py', '../../../configs/_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier')
