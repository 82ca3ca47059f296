"""Pascal Context, 59 classes and the background."""
_base_ = 'pascal_context_59.py'

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[1].reduce_zero_label = test_pipeline[2].reduce_zero_label = False
train_dataloader = dict(dataset=dict(type='PascalContextDataset', pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(dataset=dict(type='PascalContextDataset', pipeline=test_pipeline))
