"""Mobile-Former as backbone and classifier, for ``custom_imports`` of configs."""
from .archs import ARCHS
from .head import MobileFormerClsHead
from .mobile_former import MobileFormer

__all__ = ['ARCHS', 'MobileFormer', 'MobileFormerClsHead']
