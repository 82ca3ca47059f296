"""The same detector from random weights.

    python tools/train.py configs/demo/detect_scratch.py
"""
_base_ = 'detect.py'

model = dict(backbone=dict(init_cfg=dict(_delete_=True, type='TruncNormal', layer='Linear', std=.02, bias=0.)))
