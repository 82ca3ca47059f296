"""Loops: saving a teacher's logits, and asking it again."""
from .check_logits import CheckLogitsLoop
from .save_logits import SaveLogitsLoop

__all__ = ['CheckLogitsLoop', 'SaveLogitsLoop']
