"""Heads: from features to logits."""
from .deit_distill import DeiTDistillHead

__all__ = ['DeiTDistillHead']
