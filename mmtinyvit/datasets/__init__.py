"""Data: seeds, the epoch clock, replayed transforms, samplers and datasets."""
from .clock import EpochClock, set_view
from .image_folders import ImageFolder, ImageNet
from .indexed_images import IndexedImages
from .load_image import LoadImage
from .load_teacher_logits import LoadTeacherLogits, PackViewInputs
from .map_label import MapLabel
from .mixing import draw_mix, partners_of_view
from .paired_sampler import PairedSampler
from .rand_augment import AutoContrast, Equalize, RandAugment, Solarize, SolarizeAdd
from .random_resized_crop import RandomResizedCrop
from .repeat_aug_sampler import RepeatAugSampler
from .repeated_views import RepeatedViews
from .seeded_augment import SeededAugment
from .seeding import derive_seed, rng_scope
from .view_dataset import ViewDataset

__all__ = [
    'AutoContrast', 'EpochClock', 'Equalize', 'ImageFolder', 'ImageNet', 'IndexedImages', 'LoadImage',
    'LoadTeacherLogits', 'MapLabel', 'PackViewInputs', 'PairedSampler', 'RandAugment', 'RandomResizedCrop',
    'RepeatAugSampler', 'RepeatedViews', 'SeededAugment', 'Solarize', 'SolarizeAdd', 'ViewDataset', 'derive_seed',
    'draw_mix', 'partners_of_view', 'rng_scope', 'set_view'
]
