"""mmtinyvit: pretraining distillation for small vision transformers, as a plugin library for OpenMMLab."""
from .compat import check_libraries
from .version import __version__

__all__ = ['__version__']

check_libraries()
