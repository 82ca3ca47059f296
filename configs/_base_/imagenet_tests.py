"""Other tests of a model on ImageNet-1K than the validation labels; a recipe names this file beside its base.

    _base_ = ['../tinyvit/tiny_vit_21m_finetune_in1k.py', '../_base_/imagenet_tests.py']

    test_evaluator = _base_.real_labels  # ReaL labels next to the validation labels
    test_dataloader = dict(dataset=_base_.imagenet_v2)  # or the photos of ImageNet-V2, in the views of the recipe

It sets nothing by itself.
"""
imagenet_v2 = dict(
    type='mmtinyvit.ImageNetV2', data_root='data/imagenetv2/', split='matched-frequency',
    source='get imagenetv2-matched-frequency.tar.gz from https://huggingface.co/datasets/vaishaal/ImageNetV2 and '
           'unpack it in data/imagenetv2, or set data_root and split of the dataset.')
real_labels = [dict(type='Accuracy', topk=(1, 5)), dict(type='mmtinyvit.RealAccuracy', topk=(1, 5))]
