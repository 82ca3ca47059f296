"""TopFormer-T on ADE20K, 160,000 steps.

    tools/dist_train.sh projects/topformer/configs/topformer_tiny_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/topformer_tiny_in1k/epoch_300.pth

Cost: not run here.
Result: not run here; published: 33.6 mIoU, and 34.6 with 4 images on each of 8 GPUs.
"""
_base_ = [
    '_base_/segmenter_tiny.py', '_base_/ade20k.py', '_base_/schedule_160k.py',
    '../../../configs/_base_/segmentation/runtime.py'
]

optim_wrapper = dict(optimizer=dict(lr=3e-4))
