"""What mmpretrain's MobileViT lacks for its training, for ``custom_imports`` of configs."""
from .mobilevit import DropoutNeck, MobileViT
from .multi_scale_sampler import MultiScaleBatchSampler
from .sized_views import SizedRandomResizedCrop, SizedViews

__all__ = ['DropoutNeck', 'MobileViT', 'MultiScaleBatchSampler', 'SizedRandomResizedCrop', 'SizedViews']
