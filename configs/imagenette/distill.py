"""The student distilled from the store, without labels; tested on the ten classes among its 1,000.

    python tools/train.py configs/imagenette/distill.py
"""
_base_ = ['data.py', 'student.py']

model = dict(type='mmtinyvit.DistillClassifier')
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
test_evaluator = val_evaluator = dict(
    _delete_=True, type='mmtinyvit.MappedAccuracy', num_classes='in1k', topk=(1, ))
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook')]
