"""DeiT-Ti distilled on ImageNet-1K with the token, from a store of RegNetY-16GF on mixed images.

    tools/dist_save_logits.sh configs/teachers/regnety_160_in1k_mixed.py 8 --amp
    tools/dist_train.sh configs/deit/deit_tiny_distilled_in1k_store.py 8 --amp

The recipe of deit_tiny_distilled_in1k.py without its teacher: Mixup and CutMix are replayed, and hard targets are the
teacher's own. It differs in two things: each pair is mixed with a coefficient of its own, in place of one per batch,
and an epoch reads one view of every image, without repeated augmentation.

Cost and result: not run here, and none published.
"""
_base_ = [
    '../_base_/models/deit_distilled.py', '../_base_/stores/in1k_regnety_160_mixed.py',
    '../_base_/schedules/deit_in1k_300e.py'
]
