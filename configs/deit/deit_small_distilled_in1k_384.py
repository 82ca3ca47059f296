"""DeiT-S distilled finetuned on ImageNet-1K at 384 pixels, 30 epochs (https://arxiv.org/abs/2012.12877).

    tools/dist_train.sh configs/deit/deit_small_distilled_in1k_384.py 8 --amp \
        --cfg-options load_from=work_dirs/deit_small_distilled_in1k/epoch_300.pth

The position embedding of the checkpoint, ours or an official one, is resized while loading.

The teacher stays the same; it sees the images of 384 pixels. The original finetunes without distillation only.

Cost: not run here; the original used 16 GPUs (2 x 8) with 32 images each.
Result: not run here, and none published.
"""
_base_ = 'deit_tiny_in1k_384.py'

model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(type='mmtinyvit.DistilledDeiT', arch='deit-small'),
    head=dict(type='mmtinyvit.DeiTDistillHead', in_channels=384),
    teacher=dict(model=dict(type='mmpretrain.TimmClassifier', model_name='regnety_160.deit_in1k', pretrained=True)),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)
