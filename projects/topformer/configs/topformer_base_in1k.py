"""TopFormer-B trained on ImageNet-1K with labels, 300 epochs, to start segmentation from.

    tools/dist_train.sh projects/topformer/configs/topformer_base_in1k.py 8 --amp

AdamW, 2e-3 for a batch of 1024, weight decay 0.01 and label smoothing 0.1. The rate and the decay are PaddleViT's, its
batch is not known; the authors trained 600 epochs with RMSprop. Augmentation and warm-up are TinyViT's.
Cost: not run here.
Result: not run here; published: 74.2 top-1 (PaddleViT), 75.3 (the authors).
"""
_base_ = [
    '_base_/classifier_base.py', '../../../configs/_base_/datasets/imagenet1k.py',
    '../../../configs/_base_/schedules/in1k_300e.py', '../../../configs/_base_/default_runtime.py'
]

model = dict(head=dict(loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.01))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
