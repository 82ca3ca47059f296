"""A linear classifier of ImageNet-1K on the frozen features of TinyViT-11M.

    tools/dist_train.sh configs/tinyvit/tiny_vit_11m_linear_in1k.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_11m_distill_in21k/epoch_90.pth

The head starts anew, whatever head the checkpoint has. Other folders of images: docs/en/finetuning.md.
Cost and result: not run here.
"""
_base_ = 'tiny_vit_21m_linear_in1k.py'

model = dict(backbone=dict(arch='11m'), head=dict(in_channels=448))
