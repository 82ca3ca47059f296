"""TinyViT-5M trained on ImageNet-1K from scratch, with labels (https://arxiv.org/abs/2207.10666), 300 epochs.

    tools/dist_train.sh configs/tinyvit/tiny_vit_5m_in1k.py 8 --amp

Mixup 0.8, CutMix 1.0 and label smoothing 0.1. The mixing belongs to the view's name, pair by pair, and can be replayed;
the original draws one coefficient for a batch.
Cost: not run here; the original used 8 GPUs with 128 images each.
Result: not run here; published: 79.1 top-1.
"""
_base_ = 'tiny_vit_21m_in1k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
