"""MobileViT-S distilled on ImageNet-21K from CLIP-ViT-L/14, 90 epochs, top 100.

    tools/dist_train.sh projects/mobilevit/configs/mobilevit_s_distill_in21k.py 8 --amp

The views are those of the store, 224 pixels wide, enlarged to 256 on the device. Images are BGR and divided by 255.
Cost and result: not run here, and none published. The store and the schedule are those of TinyViT, whose paper
distils other small transformers with them too.
"""
_base_ = [
    '_base_/model.py', '../../../configs/_base_/stores/in21k_top100.py',
    '../../../configs/_base_/schedules/distill_in21k_90e.py', '../../../configs/_base_/default_runtime.py'
]

data_preprocessor = dict(
    type='mmtinyvit.ReplayDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False, input_size=256)
model = dict(type='mmtinyvit.DistillClassifier', head=dict(num_classes=21841))
