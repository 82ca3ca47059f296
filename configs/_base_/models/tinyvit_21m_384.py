# TinyViT-21M at 384 px: the windows grow with the image, and the attention biases of a checkpoint are interpolated.
_base_ = 'tinyvit_21m.py'
model = dict(backbone=dict(window_sizes=(12, 12, 24, 12)))
