"""Folders of small images, one per class, on a few cores: what the loaders have in common. A config adds the datasets.
"""
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'))
test_dataloader = dict(
    batch_size=125,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'))
val_dataloader = test_dataloader
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1, ))
