"""Losses: plain tensors in, a tensor out."""
from . import distillation, tinymim
from .distillation import *  # noqa: F403
from .tinymim import *  # noqa: F403

__all__ = [*distillation.__all__, *tinymim.__all__]
