"""Loops: saving a teacher's logits."""
from .save_logits import SaveLogitsLoop

__all__ = ['SaveLogitsLoop']
