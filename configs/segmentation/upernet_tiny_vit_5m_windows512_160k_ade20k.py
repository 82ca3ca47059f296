"""UPerNet with TinyViT-5M on ADE20K, 160,000 steps, with the windows of 512 pixels.

    tools/dist_train.sh configs/segmentation/upernet_tiny_vit_5m_windows512_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/tiny_vit_5m_distill_in21k/epoch_90.pth

The maps of a crop of 512 pixels divide into windows of 16, 32 and 16 tokens without padding; attention biases of a
checkpoint for other windows are interpolated.
Cost and result: not run here, and none published.
"""
_base_ = 'upernet_tiny_vit_5m_160k_ade20k.py'

model = dict(backbone=dict(window_sizes=(16, 16, 32, 16)))
