"""Data: seeds, the epoch clock, replayed transforms, samplers and datasets."""
from .clock import EpochClock, set_view
from .image_folders import ImageFolder, ImageNet
from .indexed_images import IndexedImages
from .load_image import LoadImage
from .load_teacher_logits import LoadTeacherLogits, PackViewInputs
from .mixing import draw_mix, partners_of_view
from .paired_sampler import PairedSampler
from .seeded_augment import SeededAugment
from .seeding import derive_seed, rng_scope
from .view_dataset import ViewDataset

__all__ = [
    'EpochClock', 'ImageFolder', 'ImageNet', 'IndexedImages', 'LoadImage', 'LoadTeacherLogits', 'PackViewInputs',
    'PairedSampler', 'SeededAugment', 'ViewDataset', 'derive_seed', 'draw_mix', 'partners_of_view', 'rng_scope',
    'set_view'
]
