"""CLIP-ViT-L/14 finetuned on ImageNet-21K, the teacher of TinyViT (https://arxiv.org/abs/2207.10666).

90 views of every image, top 100.

    tools/dist_save_logits.sh configs/teachers/clip_vit_l14_in21k.py 8 \
        checkpoints/clip_vit_large_patch14_22k_mmtinyvit.pth --amp

Cost: not run here. 1.28 billion forward passes; the size of the store is in docs/en/store_format.md.
Result: not run here; published: 85.9 top-1 on ImageNet-1K through the class map, without finetuning there.
"""
_base_ = [
    '../_base_/models/clip_vit_l14_in21k.py', '../_base_/stores/in21k_top100.py', '../_base_/default_runtime.py'
]

custom_hooks = []
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(
    _delete_=True,
    batch_size=256,
    num_workers=16,
    dataset=dict(_base_.train_dataloader.dataset, pipeline=_base_.train_pipeline))
test_cfg = dict(
    type='mmtinyvit.SaveLogitsLoop', store=_base_.store, views=(0, _base_.num_views), topk=_base_.topk)
