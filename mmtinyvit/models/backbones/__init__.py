"""Backbones: TinyViT, and the teachers that are not in mmpretrain."""
from .tiny_vit import TinyViT

__all__ = ['TinyViT']
