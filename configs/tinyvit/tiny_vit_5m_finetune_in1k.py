"""TinyViT-5M finetuned on ImageNet-1K after distillation on ImageNet-21K (https://arxiv.org/abs/2207.10666).

    tools/dist_train.sh configs/tinyvit/tiny_vit_5m_finetune_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth

Cost: not run here; the original used 8 GPUs with 128 images each.
Result: not run here; published: 80.7 top-1.
"""
_base_ = 'tiny_vit_21m_finetune_in1k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
