"""mmtinyvit: pretraining distillation for small vision transformers, as a plugin library for OpenMMLab."""
from .version import __version__

__all__ = ['__version__']
