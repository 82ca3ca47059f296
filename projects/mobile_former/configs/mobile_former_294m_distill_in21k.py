"""Mobile-Former-294M distilled on ImageNet-21K from CLIP-ViT-L/14, 90 epochs, top 100.

    tools/dist_train.sh projects/mobile_former/configs/mobile_former_294m_distill_in21k.py 8 --amp

Cost and result: not run here, and none published. The store and the schedule are those of TinyViT, whose paper
distils other small transformers with them too.
"""
_base_ = [
    '_base_/model.py', '../../../configs/_base_/stores/in21k_top100.py',
    '../../../configs/_base_/schedules/distill_in21k_90e.py', '../../../configs/_base_/default_runtime.py'
]

model = dict(type='mmtinyvit.DistillClassifier', head=dict(num_classes=21841))
