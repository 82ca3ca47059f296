"""TinyViT-5M finetuned on ImageNet-1K after TinyMIM, 100 epochs.

    tools/dist_train.sh configs/tinymim/finetune_tiny_vit_5m_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_5m_from_mae_large/epoch_300.pth

The schedule is that of TinyMIM-B with TinyViT's own layer-wise decay, 0.8; nothing about it is published.
Cost and result: not run here.
"""
_base_ = 'finetune_tiny_vit_21m_in1k.py'

model = dict(backbone=dict(arch='5m', drop_path_rate=0.), head=dict(in_channels=320))
