"""TinyMIM-T from MAE ViT-B where both networks see the same quarter of the patches.

    tools/dist_train.sh configs/tinymim/ablations/masked.py 8 --amp

Cost and result: not run here.
"""
_base_ = 'baseline.py'

view_transforms = [
    *_base_.view_transforms,
    dict(type='SimMIMMaskGenerator', input_size=224, mask_patch_size=16, model_patch_size=16, mask_ratio=0.75),
]
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
model = dict(masked=True)
