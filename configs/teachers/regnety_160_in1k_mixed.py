"""RegNetY-16GF on mixed images of ImageNet-1K, DeiT's teacher (https://arxiv.org/abs/2012.12877): 300 views, top 10.

    tools/dist_save_logits.sh configs/teachers/regnety_160_in1k_mixed.py 8 --amp

timm downloads the weights, those that the authors of DeiT trained. Another teacher, convolutional or a transformer, is
another `model_name`, with its mean and std.
Cost and result: not run here; published: 82.9 top-1 on ImageNet-1K.
"""
_base_ = 'timm_in1k_mixed.py'

store = 'data/in1k_regnety_160_mixed_logits'
model = dict(
    model_name='regnety_160.deit_in1k',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
