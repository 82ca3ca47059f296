"""RegNetY-16GF on mixed images of ImageNet-1K, DeiT's teacher (https://arxiv.org/abs/2012.12877): 300 views, top 10.

    tools/dist_save_logits.sh configs/teachers/regnety_160_in1k_mixed.py 8 --amp

timm downloads the weights, those that the authors of DeiT trained. Another teacher, convolutional or a transformer, is
another `model_name`, with its mean and std.
Cost and result: not run here; published: 82.9 top-1 on ImageNet-1K.
"""
_base_ = ['../_base_/stores/in1k_regnety_160_mixed.py', '../_base_/default_runtime.py']

model = dict(
    type='TimmClassifier',
    model_name='regnety_160.deit_in1k',
    pretrained=True,
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True))

custom_hooks = []
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(
    _delete_=True,
    batch_size=256,
    num_workers=16,
    dataset=dict(_base_.train_dataloader.dataset, pipeline=_base_.train_pipeline))
test_cfg = dict(
    type='mmtinyvit.SaveLogitsLoop',
    store=_base_.store,
    views=(0, _base_.num_views),
    topk=_base_.topk,
    mixing=_base_.mixing)
