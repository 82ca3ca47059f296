"""TinyMIM-T straight from MAE ViT-B, block 12 (https://arxiv.org/abs/2301.01296), 300 epochs, without the chain.

    tools/dist_train.sh configs/tinymim/mae_base_to_tiny.py 8 --amp

The teacher is mae_pretrain_vit_base.pth of https://github.com/facebookresearch/mae, as it is.
Cost: not run here; the original's total batch is 4096.
Result: not run here; the paper has this setting in an ablation, whose numbers are not at hand.
"""
_base_ = 'mae_large_to_base.py'

model = dict(
    backbone=dict(
        arch='deit-tiny',
        layer_cfgs=[  # heads: 6, in the adaptive last block 12
            *[dict(num_heads=6, drop_path_rate=0.1)] * 11,
            dict(num_heads=12, drop_path_rate=0.),
        ]),
    teacher=dict(backbone=dict(arch='base'), checkpoint='checkpoints/mae_pretrain_vit_base.pth', block=12))
