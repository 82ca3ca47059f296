"""TopFormer-T on the 59 classes of Pascal Context, 80,000 steps.

    tools/dist_train.sh projects/topformer/configs/topformer_tiny_80k_pascal_context_59.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/topformer_tiny_in1k/epoch_300.pth

Cost: not run here.
Result: not run here; published: 40.39 mIoU.
"""
_base_ = [
    '_base_/segmenter_tiny.py', '_base_/pascal_context_59.py', '_base_/schedule_80k.py',
    '../../../configs/_base_/segmentation/runtime.py'
]

model = dict(data_preprocessor=dict(size=(480, 480)), decode_head=dict(num_classes=59))
