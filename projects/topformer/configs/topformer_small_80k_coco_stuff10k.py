"""TopFormer-S on COCO-Stuff 10k, 80,000 steps.

    tools/dist_train.sh projects/topformer/configs/topformer_small_80k_coco_stuff10k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/topformer_small_in1k/epoch_300.pth

Cost: not run here.
Result: not run here; published: 30.83 mIoU.
"""
_base_ = [
    '_base_/segmenter_small.py', '_base_/coco_stuff10k.py', '_base_/schedule_80k.py',
    '../../../configs/_base_/segmentation/runtime.py'
]

model = dict(decode_head=dict(num_classes=171))
