"""The main recipe of TinyViT (https://arxiv.org/abs/2207.10666): TinyViT-21M distilled on ImageNet-21K.

    python tools/train.py configs/tinyvit/distill_in21k.py

Cost: not run here; the original used 32 GPUs (4 x 8) with 128 images each.
Result: not run here; published: 84.8 top-1 on ImageNet-1K at 224 pixels, after finetuning there.
"""
_base_ = 'tiny_vit_21m_distill_in21k.py'
