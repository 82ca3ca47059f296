"""TopFormer-S on the 59 classes of Pascal Context and the background, 80,000 steps.

    tools/dist_train.sh projects/topformer/configs/topformer_small_80k_pascal_context_60.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/topformer_small_in1k/epoch_300.pth

Cost: not run here.
Result: not run here; published: 39.06 mIoU.
"""
_base_ = [
    '_base_/segmenter_small.py', '_base_/pascal_context_60.py', '_base_/schedule_80k.py',
    '../../../configs/_base_/segmentation/runtime.py'
]

model = dict(data_preprocessor=dict(size=(480, 480)), decode_head=dict(num_classes=60))
