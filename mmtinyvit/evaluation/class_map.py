"""From the labels of a large ImageNet to those of ImageNet-1K, by synset.

timm ships the synset list of every label layout in use. Looking the 1,000 synsets up in the 21,841 gives exactly the
map that TinyViT was published with (``imagenet_1kto22k.txt``): 999 matches, and none for n04399382 (teddy bear).
"""
from functools import cache

import numpy as np

from ..errors import UserError

__all__ = ['IN21K_LAYOUTS', 'class_names', 'in21k_to_in1k_index', 'synsets']

IN21K_LAYOUTS = {
    21841: 'imagenet-22k',  # release fall 2011, synsets sorted: TinyViT, its teacher, Swin, ConvNeXt
    21842: 'imagenet-22k-ms',  # FocalNet: the 1,000 classes first
    21843: 'imagenet-21k-goog',  # ViT, BiT, EfficientNetV2
    11221: 'imagenet-21k-miil',  # ImageNet-21K-P, winter 2021
    11821: 'imagenet-12k',  # timm's own subset
}


@cache
def synsets(subset: str) -> tuple[str, ...]:
    """The WordNet synsets of a label layout in label order, by timm's name such as ``'imagenet-22k'``."""
    from timm.data import ImageNetInfo
    return tuple(ImageNetInfo(subset).label_names())


@cache
def class_names(subset: str) -> tuple[str, ...]:
    """What people call the classes of a label layout, in label order; see :func:`synsets`."""
    from timm.data import ImageNetInfo
    return tuple(ImageNetInfo(subset).label_descriptions())


@cache
def in21k_to_in1k_index(num_classes: int = 21841) -> np.ndarray:
    """Which class of the large layout each class of ImageNet-1K is.

    Args:
        num_classes: Size of the large head; says which layout it is, see :data:`IN21K_LAYOUTS`.

    Returns:
        ``(1000,)`` int64, read-only: index into the large head, -1 for a class that it does not have.

    Raises:
        UserError: No layout with this number of classes is known.
    """
    if num_classes not in IN21K_LAYOUTS:
        known = ', '.join(f'{count} ({name})' for count, name in IN21K_LAYOUTS.items())
        raise UserError(f'No layout of ImageNet-21K labels has {num_classes} classes: the known ones have {known}.')
    position = {synset: index for index, synset in enumerate(synsets(IN21K_LAYOUTS[num_classes]))}
    index = np.array([position.get(synset, -1) for synset in synsets('imagenet-1k')], np.int64)
    index.flags.writeable = False
    return index
