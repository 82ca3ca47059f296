"""The student trained with every tenth label, for as many epochs as the others and on the views of the store."""
_base_ = ['data.py', 'student.py']

model = dict(head=dict(num_classes=10))
train_dataloader = dict(dataset=dict(indices=list(range(0, 7500, 10))))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook', num_views=_base_.num_views)]
