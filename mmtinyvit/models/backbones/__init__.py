"""Backbones: TinyViT, DeiT, a ViT for segmentation, and the teachers that are not in mmpretrain."""
from .clip_vision import CLIPVisionTower
from .deit import DeiT, DistilledDeiT
from .dense_vit import DenseViT
from .tiny_vit import TinyViT

__all__ = ['CLIPVisionTower', 'DeiT', 'DenseViT', 'DistilledDeiT', 'TinyViT']
