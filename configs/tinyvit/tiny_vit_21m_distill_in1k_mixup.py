"""TinyViT-21M distilled on ImageNet-1K with Mixup and CutMix from a timm teacher, 300 epochs, top 10.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_distill_in1k_mixup.py 8 --amp

Cost and result: not run here, and none published. Mixup 0.8 and CutMix 1.0 are what the original trains with on
ImageNet-1K; here the pairs belong to the view, so that the teacher saw the very same mixed images.
"""
_base_ = 'tiny_vit_21m_distill_in1k.py'

store = 'data/in1k_mixed_logits'
mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing)
train_dataloader = dict(sampler=dict(type='mmtinyvit.PairedSampler'))
