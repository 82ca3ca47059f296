"""The small DeiT with labels for one head and the teacher's probabilities, out of the store, for the other.

    python tools/train.py configs/imagenette/deit_soft.py
"""
_base_ = 'deit_hard.py'

model = dict(distill=dict(_delete_=True, type='mmtinyvit.SoftDistillationLoss', temperature=1.))
