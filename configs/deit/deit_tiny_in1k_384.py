"""DeiT-Ti finetuned on ImageNet-1K at 384 pixels, 30 epochs (https://arxiv.org/abs/2012.12877).

    tools/dist_train.sh configs/deit/deit_tiny_in1k_384.py 8 --amp \
        --cfg-options load_from=work_dirs/deit_tiny_in1k/epoch_300.pth

The position embedding of the checkpoint, ours or an official one, is resized while loading.

What differs from mmpretrain's deit-base_16xb32_in1k-384px.py, and follows the original:

- rate 5e-6 per 512 images, constant after a warm-up of 5 epochs, there 3e-3 with 30 epochs of warm-up and a cosine;
- weight decay 1e-8, none on biases and norms, there 0.3 on both;
- 30 epochs, there 300;
- gradient clipping: none, there 1.0;
- RandAugment, erasing, Mixup, CutMix and repeated augmentation, there none of them;
- stochastic depth 0.1 and averaged weights, there none;
- tested on the centre of an image of 438 pixels, there on the whole image.

Cost: not run here; the original used 16 GPUs (2 x 8) with 32 images each.
Result: not run here, and none published.
"""
_base_ = [
    '../_base_/models/deit.py', '../_base_/datasets/imagenet1k_deit_384.py',
    '../_base_/schedules/deit_in1k_384_30e.py'
]

model = dict(backbone=dict(img_size=384))
