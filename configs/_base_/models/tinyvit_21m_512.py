# TinyViT-21M at 512 px: the windows grow with the image, and the attention biases of a checkpoint are interpolated.
_base_ = 'tinyvit_21m.py'
model = dict(backbone=dict(window_sizes=(16, 16, 32, 16)))
