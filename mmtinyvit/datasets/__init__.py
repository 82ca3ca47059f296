"""Data: seeds, the epoch clock, replayed transforms, samplers and datasets."""
from .augmentations import AutoContrast, Equalize, RandAugment, RandomResizedCrop, Solarize, SolarizeAdd
from .image_folders import ImageFolder, ImageNet
from .imagenet_v2 import ImageNetV2
from .indexed_images import IndexedImages
from .load_image import LoadImage
from .load_teacher_logits import LoadTeacherLogits, PackViewInputs
from .map_label import MapLabel
from .mixing import PairedSampler, draw_mix, partners_of_view
from .repeated import RepeatAugSampler, RepeatedViews
from .seeding import ViewName, derive_seed, rng_scope
from .view_dataset import ViewDataset, ViewsAtOnce
from .views import EpochClock, SeededAugment, set_view

__all__ = [
    'AutoContrast', 'EpochClock', 'Equalize', 'ImageFolder', 'ImageNet', 'ImageNetV2', 'IndexedImages',
    'LoadImage', 'LoadTeacherLogits', 'MapLabel', 'PackViewInputs', 'PairedSampler', 'RandAugment', 'RandomResizedCrop',
    'RepeatAugSampler', 'RepeatedViews', 'SeededAugment', 'Solarize', 'SolarizeAdd', 'ViewDataset', 'ViewName',
    'ViewsAtOnce', 'derive_seed', 'draw_mix', 'partners_of_view', 'rng_scope', 'set_view'
]
