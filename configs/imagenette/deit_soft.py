"""The small DeiT with labels for one head and the teacher's probabilities, out of the store, for the other.

    python tools/train.py configs/imagenette/deit_soft.py
"""
_base_ = 'deit_none.py'

model = dict(distill=dict(type='mmtinyvit.SoftDistillationLoss', temperature=1.), alpha=0.5)
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits'),
        dict(type='mmtinyvit.MapLabel', target='in1k'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook')]
