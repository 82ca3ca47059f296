"""The teacher of TinyViT as a classifier: CLIP-ViT-L/14 finetuned on ImageNet-21K, tested on ImageNet-1K.

    python tools/test.py configs/teachers/clip_vit_l14_in21k_test.py \
        checkpoints/clip_vit_large_patch14_22k_mmtinyvit.pth

The head has 21,841 classes and is judged through the class map. Without SeededAugment, so that pictures can be
classified with it.

Cost: not run here; 50,000 forward passes.
Result: not run here; published: 85.9 top-1.
"""
_base_ = [
    '../_base_/models/clip_vit_l14_in21k.py', '../_base_/datasets/imagenet21k.py', '../_base_/default_runtime.py'
]

train_dataloader = val_dataloader = val_evaluator = None
test_cfg = dict()
