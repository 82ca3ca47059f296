"""The teacher of TinyViT as a classifier: CLIP-ViT-L/14 finetuned on ImageNet-21K, tested on ImageNet-1K.

    python tools/test.py configs/teachers/clip_vit_l14_in21k_test.py \
        checkpoints/clip_vit_large_patch14_22k_mmtinyvit.pth

The head has 21,841 classes and is judged through the class map. Without SeededAugment, so that pictures can be
classified with it.

Cost: not run here; 50,000 forward passes.
Result: not run here; published: 85.9 top-1.
"""
_base_ = '../_base_/imagenet1k.py'

# CLIP-ViT-L/14 (https://arxiv.org/abs/2103.00020) finetuned by the authors of TinyViT. Weights:
# tools/model_converters/clip_vit_to_mmtinyvit.py on clip_vit_large_patch14_22k.pth of
# https://github.com/wkcn/TinyViT-model-zoo. The finetuning kept CLIP's normalisation, and so must the teacher's input.
num_classes = 21841
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        num_classes=num_classes,
        mean=[0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255],  # RGB, over pixels from 0 to 255
        std=[0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255],
        to_rgb=True),
    backbone=dict(type='mmtinyvit.CLIPVisionTower'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=num_classes,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)))

data_preprocessor = dict(num_classes=num_classes)
train_dataloader = val_dataloader = val_evaluator = None
test_evaluator = dict(_delete_=True, type='mmtinyvit.MappedAccuracy', num_classes=num_classes, topk=(1, 5))
test_cfg = dict()
