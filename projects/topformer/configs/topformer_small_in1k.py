"""TopFormer-S trained on ImageNet-1K with labels, 300 epochs, to start segmentation from.

    tools/dist_train.sh projects/topformer/configs/topformer_small_in1k.py 8 --amp

AdamW, 2e-3 for a batch of 1024, weight decay 0.01 and label smoothing 0.1. The rate and the decay are PaddleViT's, its
batch is not known; the authors trained 600 epochs with RMSprop. Augmentation and warm-up are TinyViT's.
Cost: not run here.
Result: not run here; published: 72.6 top-1 (PaddleViT), 72.3 (the authors).
"""
_base_ = 'topformer_base_in1k.py'

model = dict(
    backbone=dict(arch='small'),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=296, affine=True, eps=1e-5),
    ],
    head=dict(in_channels=296))
