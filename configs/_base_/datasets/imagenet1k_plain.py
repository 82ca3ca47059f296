"""ImageNet-1K with random crops and flips alone, for a linear probe."""
_base_ = 'imagenet1k.py'

view_transforms = _base_.view_transforms[:2]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
