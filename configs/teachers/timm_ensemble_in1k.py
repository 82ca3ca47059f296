"""Two timm models of ImageNet-1K as one teacher, a transformer and a ConvNet, saved in one pass: 300 views, top 10.

    tools/dist_save_logits.sh configs/teachers/timm_ensemble_in1k.py 8 --amp

timm downloads the weights. Each member has its own normalisation; one of another input size gets
`input_size` of `mmtinyvit.ReplayDataPreprocessor`. What is stored are the top 10 of the mean probabilities.
Cost and result: not run here.
"""
_base_ = 'timm_in1k.py'

model = dict(
    _delete_=True,
    type='mmtinyvit.EnsembleClassifier',
    weights=[0.5, 0.5],
    teachers=[
        _base_.model,
        dict(
            type='TimmClassifier',
            model_name='convnext_large.fb_in22k_ft_in1k',
            pretrained=True,
            data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)),
    ])
store = 'data/in1k_ensemble_logits'
