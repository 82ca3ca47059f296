"""The student trained with labels: same network, same epochs, same augmentation.

    python tools/train.py configs/demo/label_only.py
"""
_base_ = ['digits.py', 'student.py']

custom_hooks = [dict(type='mmtinyvit.EpochClockHook', num_views=_base_.num_views)]
