"""TopFormer; the head for mmsegmentation is in ``simple_head``, which needs that library."""
from .backbone import TopFormer

__all__ = ['TopFormer']
