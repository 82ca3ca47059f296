"""COCO 2017, boxes only."""
_base_ = 'coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].with_mask = False
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[2].with_mask = False
test_dataloader = val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = val_evaluator = dict(metric='bbox')
