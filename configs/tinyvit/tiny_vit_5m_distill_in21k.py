"""TinyViT-5M distilled on ImageNet-21K from CLIP-ViT-L/14 (https://arxiv.org/abs/2207.10666), 90 epochs, top 100.

    tools/dist_train.sh configs/tinyvit/tiny_vit_5m_distill_in21k.py 8 --amp

Cost: not run here; the original used 32 GPUs (4 x 8) with 128 images each.
Result: not run here; published: 80.7 top-1 on ImageNet-1K at 224 pixels, after finetuning there.
"""
_base_ = 'distill_in21k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
