# ViT-Tiny for finetuning on ImageNet-1K after TinyMIM: the heads of DeiT in all blocks, patch tokens averaged.
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='deit-tiny', out_type='avg_featmap', final_norm=False,
        drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)))
