"""The student distilled from the store, without labels and without the teacher.

    python tools/train.py configs/demo/distill.py
"""
_base_ = ['digits.py', 'student.py']

model = dict(type='mmtinyvit.DistillClassifier')
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook')]
