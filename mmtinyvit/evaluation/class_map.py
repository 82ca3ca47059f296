"""The label layouts of ImageNet, and which class of one layout is which of another, by synset.

ImageNet-21K was published and cut down several times, so a head has 21,841, 19,167, 10,450 or another number of
classes. timm ships the synset lists of all layouts here but winter21's. Looking the 1,000 synsets up in the 21,841
gives exactly the map that TinyViT was published with (``imagenet_1kto22k.txt``): 999 matches, and none for n04399382
(teddy bear).
"""
import os
import re
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timm.data import ImageNetInfo

from ..errors import UserError

__all__ = ['LAYOUTS', 'LabelLayout', 'class_names', 'layout_with', 'match_classes', 'short_name', 'synsets']


class LabelLayout(NamedTuple):
    """How many classes a layout has, what timm calls it, and the file of timm that lists them; '' for none."""
    num_classes: int
    timm_name: str
    file: str


# The names of timm's data sets on the hub stand where `timm.data.ImageNetInfo` has none: imagenet-w21 and -w21-p.
LAYOUTS = {
    'in1k': LabelLayout(1000, 'imagenet-1k', 'imagenet_synsets.txt'),
    'in12k': LabelLayout(11821, 'imagenet-12k', 'imagenet12k_synsets.txt'),  # timm's own choice from fall11
    # The release of fall 2011: TinyViT and its teacher, Swin, ConvNeXt, BEiT.
    'fall11': LabelLayout(21841, 'imagenet-22k', 'imagenet22k_synsets.txt'),
    # With n04399382, and the 1,000 classes first: FocalNet.
    'fall11-ms': LabelLayout(21842, 'imagenet-22k-ms', 'imagenet22k_ms_synsets.txt'),
    # With n03931044 and n09859684: ViT, BiT, EfficientNetV2.
    'fall11-google': LabelLayout(21843, 'imagenet-21k-goog', 'imagenet21k_goog_synsets.txt'),
    # ImageNet-21K-P: the classes with 500 images or more.
    'fall11-p': LabelLayout(11221, 'imagenet-21k-miil', 'imagenet21k_miil_synsets.txt'),
    # The release of winter 2021, which leaves out most classes of people; and its 21K-P.
    'winter21': LabelLayout(19167, 'imagenet-w21', ''),
    'winter21-p': LabelLayout(10450, 'imagenet-w21-p', 'imagenet21k_miil_w21_synsets.txt'),
}
_KNOWN = ', '.join(f'{name} ({layout.num_classes})' for name, layout in LAYOUTS.items())
_LIST_FILE = 'a file with one class per line in label order'


def _plain(name: str) -> str:
    """A name as timm compares it."""
    return re.sub(r'[-_\s]', '', name.lower())


_NAMES = {_plain(str(alias)): name for name, layout in LAYOUTS.items()
          for alias in (name, layout.timm_name, layout.num_classes)}


@cache
def _shipped(name: str) -> tuple[str, ...]:
    layout = LAYOUTS[name]
    if not layout.file:
        raise UserError(f'No library here ships the {layout.num_classes:,} synsets of {name}: name {_LIST_FILE} '
                        'instead; the sorted names of the tars in winter21_whole.tar.gz, without .tar, are that list.')
    return tuple(files('timm.data').joinpath('_info', layout.file).read_text().split())


def synsets(layout: str | int | os.PathLike) -> tuple[str, ...]:
    """The classes of a label layout in label order, as WordNet synsets such as ``'n01440764'``.

    Args:
        layout: Its name, see :data:`LAYOUTS`; timm's name such as ``'imagenet-22k'``; its number of classes; or a file
            with one class per line in label order.

    Raises:
        UserError: There is no such layout or file, its list is not shipped, or the file is empty or names a class
            twice.
    """
    name = _NAMES.get(_plain(str(layout)))
    if name:
        return _shipped(name)
    if str(layout).isdigit():
        raise UserError(f'No label layout of ImageNet has {layout} classes: the known ones are {_KNOWN}; for another '
                        f'one, name {_LIST_FILE}.')
    try:
        lines = Path(layout).read_text().split('\n')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not a text'
        raise UserError(f'The class list {layout} cannot be read ({reason}): name {_LIST_FILE}, or one of '
                        f'{", ".join(LAYOUTS)}.') from error
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes:
        raise UserError(f'The class list {layout} is empty: name {_LIST_FILE}.')
    if len(set(classes)) < len(classes):
        twice = next(each for each in classes if classes.count(each) > 1)
        raise UserError(f'The class list {layout} names {twice} twice: keep one of them.')
    return classes


@cache
def _imagenet() -> ImageNetInfo:
    return ImageNetInfo()


@cache
def class_names(layout: str) -> tuple[str, ...]:
    """What people call the classes of a layout of :data:`LAYOUTS`, in label order."""
    return tuple(map(_imagenet().label_name_to_description, _shipped(layout)))


def layout_with(classes: Collection[str], num_classes: int) -> str | None:
    """The layout of ``num_classes`` classes that has all of ``classes``, as synsets; None if there is none."""
    return next((name for name, layout in LAYOUTS.items() if layout.num_classes == num_classes and layout.file
                 and set(classes) <= set(_shipped(name))), None)


def short_name(name: str) -> str:
    """What to call a class where there is little room: a synset by the first of its words, ``n02979186`` as
    ``'cassette player'``; any other name as it is.
    """
    if not re.fullmatch(r'n\d{8}', name):
        return name
    with suppress(KeyError):
        return _imagenet().label_name_to_description(name).split(',')[0]
    return name


def match_classes(source: str | int | os.PathLike = 'fall11', target: str | int | os.PathLike = 'in1k') -> np.ndarray:
    """Which class of one layout each class of another one is, by synset.

    Args:
        source: Layout of a head; as for :func:`synsets`.
        target: Layout that is wanted; likewise.

    Returns:
        ``(classes of target,)`` int64: index into ``source``, -1 for a class that it does not have.

    Raises:
        UserError: A layout is not known, see :func:`synsets`, or the two have no class in common.
    """
    position = {synset: index for index, synset in enumerate(synsets(source))}
    index = np.array([position.get(synset, -1) for synset in synsets(target)], np.int64)
    if index.max() < 0:
        raise UserError(f'The label layouts {source} and {target} have no class in common: their lists must hold '
                        'synsets such as n01440764.')
    return index
