"""DeiT-Ti distilled on ImageNet-1K with the token, from a store of RegNetY-16GF on mixed images.

    tools/dist_save_logits.sh configs/teachers/regnety_160_in1k_mixed.py 8 --amp
    tools/dist_train.sh configs/deit/deit_tiny_distilled_in1k_store.py 8 --amp

The recipe of deit_tiny_distilled_in1k.py without its teacher: Mixup and CutMix are replayed, and hard targets are the
teacher's own. It differs in two things: each pair is mixed with a coefficient of its own, in place of one per batch,
and an epoch reads one view of every image, without repeated augmentation.

Cost and result: not run here, and none published.
"""
_base_ = '../_base_/imagenet1k.py'

# ---------------------------------------------------------------- model
model = dict(
    type='mmtinyvit.DeiTDistillClassifier',
    backbone=dict(type='mmtinyvit.DistilledDeiT', arch='deit-tiny', img_size=224, drop_path_rate=0.1),
    head=dict(
        type='mmtinyvit.DeiTDistillHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)),
    distill=dict(type='mmtinyvit.HardDistillationLoss'),
    alpha=0.5)

# ---------------------------------------------------------------- store: --cfg-options store=/data/logits
# The top 10 of 1,000 classes for 300 views of mixed images, and with each record the name of the mixing partner.
store = 'data/in1k_regnety_160_mixed_logits'
mode = 'stored'
num_views = 300
topk = 10
mixing = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook', topk=topk)]
data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=mixing)
train_dataloader = dict(
    sampler=dict(type='mmtinyvit.PairedSampler'),
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))

# ---------------------------------------------------------------- schedule
# The rate is per 512 images and follows the total batch by itself (1e-3 at the original's 1024); its first and last
# values are shares of it. It changes once per epoch, as in the original. The cosine counts from the first epoch on, and
# the warm-up multiplies it. No gradient is clipped. The weights are averaged, and both the averaged and the plain ones
# are validated; the checkpoint's `state_dict` is the averaged one.
epochs = 300
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0., norm_decay_mult=0.,
        custom_keys={'.cls_token': dict(decay_mult=0.), '.dist_token': dict(decay_mult=0.),
                     '.pos_embed': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 1e-3, end=6, by_epoch=True),  # the sixth epoch is the first at full rate
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-5 / 1e-3, end=epochs, by_epoch=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=512)
default_hooks = dict(
    ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=1 - 0.99996, evaluate_on_origin=True))

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
