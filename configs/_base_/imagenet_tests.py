"""Other tests of a model on ImageNet-1K than the validation labels; a recipe names this file beside its base.

    _base_ = ['../tinyvit/tiny_vit_21m_finetune_in1k.py', '../_base_/imagenet_tests.py']

    test_evaluator = _base_.real_labels  # ReaL labels next to the validation labels

It sets nothing by itself.
"""
real_labels = [dict(type='Accuracy', topk=(1, 5)), dict(type='mmtinyvit.RealAccuracy', topk=(1, 5))]
