"""TinyViT-21M distilled on ImageNet-1K with Mixup and CutMix from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_distill_in1k_mixup.py 8 --amp

Cost and result: not run here, and none published. Mixup 0.8 and CutMix 1.0 are what the original trains with on
ImageNet-1K; here the pairs belong to the view, so that the teacher saw the very same mixed images.
"""
_base_ = [
    '../_base_/models/tinyvit_21m.py', '../_base_/stores/in1k_top10_mixed.py', '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier', backbone=dict(drop_path_rate=0.2))
