"""The store of DeiT's recipes: RegNetY-16GF on mixed images, what configs/teachers/ writes and configs/deit/ reads.

300 views of 1,281,167 images, the top 10 of 1,000 classes, and with each record the name of the mixing partner.
"""
_base_ = 'in1k_top10_mixed.py'

store = 'data/in1k_regnety_160_mixed_logits'

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits', store=store),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
