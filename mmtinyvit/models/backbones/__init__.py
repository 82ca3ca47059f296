"""Backbones: TinyViT, and the teachers that are not in mmpretrain."""
