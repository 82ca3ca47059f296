"""UPerNet over a plain ViT, as TinyMIM was judged on ADE20K (https://arxiv.org/abs/2301.01296), and MAE before it.

Maps of the blocks 4, 6, 8 and 12, brought to the strides 4 to 32. The network takes crops of 512 pixels only: larger
images are tested by sliding windows.
"""
_base_ = 'upernet.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmtinyvit.DenseViT', arch='deit-base', img_size=512, out_indices=(3, 5, 7, 11),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_large_to_base/epoch_300.pth')),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
