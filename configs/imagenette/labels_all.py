"""The student trained with all 7,500 labels, on the views of the store."""
_base_ = ['data.py', 'student.py']

model = dict(head=dict(num_classes=10))
custom_hooks = [dict(type='mmtinyvit.EpochClockHook', num_views=_base_.num_views)]
