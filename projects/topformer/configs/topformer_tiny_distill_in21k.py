"""TopFormer-T distilled on ImageNet-21K from CLIP-ViT-L/14, 90 epochs, top 100.

    tools/dist_train.sh projects/topformer/configs/topformer_tiny_distill_in21k.py 8 --amp

The store and the schedule are those of TinyViT.
Cost and result: not run here, and none published.
"""
_base_ = [
    '_base_/classifier_tiny.py', '../../../configs/_base_/stores/in21k_top100.py',
    '../../../configs/_base_/schedules/distill_in21k_90e.py', '../../../configs/_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier', head=dict(num_classes=21841))
