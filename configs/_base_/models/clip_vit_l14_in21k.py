# CLIP-ViT-L/14 (https://arxiv.org/abs/2103.00020) finetuned on ImageNet-22k by the authors of TinyViT, their teacher.
# Weights: tools/model_converters/clip_vit_to_mmtinyvit.py on clip_vit_large_patch14_22k.pth of
# https://github.com/wkcn/TinyViT-model-zoo. The finetuning kept CLIP's normalisation, and so must the teacher's input.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        num_classes=21841,
        mean=[0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255],  # RGB, over pixels from 0 to 255
        std=[0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255],
        to_rgb=True),
    backbone=dict(type='mmtinyvit.CLIPVisionTower'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=21841,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))
