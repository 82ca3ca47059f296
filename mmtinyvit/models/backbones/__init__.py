"""Backbones: TinyViT, and the teachers that are not in mmpretrain."""
from .clip_vision import CLIPVisionTower
from .tiny_vit import TinyViT

__all__ = ['CLIPVisionTower', 'TinyViT']
