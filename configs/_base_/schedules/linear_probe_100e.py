"""A linear classifier on frozen features: 100 epochs of SGD without weight decay, cosine.

The usual protocol for vision transformers; the rate is per 256 images and follows the total batch by itself.
"""
epochs = 100
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0., end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True, base_batch_size=256)

train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
