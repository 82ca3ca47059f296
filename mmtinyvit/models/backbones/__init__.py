"""Backbones: TinyViT, DeiT, and the teachers that are not in mmpretrain."""
from .clip_vision import CLIPVisionTower
from .deit import DeiT, DistilledDeiT
from .tiny_vit import TinyViT

__all__ = ['CLIPVisionTower', 'DeiT', 'DistilledDeiT', 'TinyViT']
