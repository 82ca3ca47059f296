"""DeiT-Ti on ImageNet-1K, 300 epochs (https://arxiv.org/abs/2012.12877): the data-efficient recipe, without a teacher.

    tools/dist_train.sh configs/deit/deit_tiny_in1k.py 8 --amp

What differs from mmpretrain's deit-tiny_4xb256_in1k.py, and follows the original:

- warm-up: 5 epochs from 1e-6, a step per epoch, there 20 epochs, a step per iteration;
- cosine: counted from the first epoch, there from the end of the warm-up;
- gradient clipping: none, there 5.0;
- stochastic depth: 0.1, rising linearly, there none for Ti and S;
- averaged weights: decay 0.99996, there none for Ti and S;
- repeated augmentation: three views of an image in a step, there none;
- start: truncated normal in MLPs, class token and head, there Xavier, zero and zero;
- the rate follows the total batch, there only with --auto-scale-lr.

The same in both, and not quite the original's: noise is erased before normalisation, so it is clipped to 0 ... 255, and
RandAugment is mmpretrain's. The original keeps the first rate for two epochs; here it is one.

Cost: not run here; the original used one node of 4 GPUs with 256 images each.
Result: not run here; published: 72.2 top-1.
"""
_base_ = [
    '../_base_/models/deit.py', '../_base_/datasets/imagenet1k_deit.py', '../_base_/schedules/deit_in1k_300e.py'
]
