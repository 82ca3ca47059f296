"""The label layouts of ImageNet, and which class of one list is which of another, by synset or name.

ImageNet-21K was published and cut down several times, so a head has 21,841, 19,167, 10,450 or another number of
classes. timm ships the synset lists of all layouts here but winter21's. Looking the 1,000 synsets up in the 21,841
gives exactly the map that TinyViT was published with (``imagenet_1kto22k.txt``): 999 matches, and none for n04399382
(teddy bear).
"""
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError

__all__ = ['LAYOUTS', 'ClassList', 'LabelLayout', 'checkpoint_classes', 'class_names', 'describe_class', 'find_classes',
           'is_synset', 'layout_with', 'list_classes', 'match_classes', 'require_classes', 'require_same_classes',
           'same_classes', 'short_name', 'spell_classes', 'spell_matches', 'synsets', 'to_synsets']

ClassList = str | int | os.PathLike | Sequence[str]  # a layout, see `synsets`, or the names themselves


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
_SHOWN = 20  # matches in a line of the log
_SYNSET = re.compile(r'n\d{8}')


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
def class_names(layout: str) -> tuple[str, ...]:
    """What people call the classes of a layout of :data:`LAYOUTS`, in label order."""
    return tuple(map(describe_class, _shipped(layout)))


def layout_with(classes: Collection[str], num_classes: int) -> str | None:
    """The layout of ``num_classes`` classes that has all of ``classes``, as synsets; None if there is none."""
    return next((name for name, layout in LAYOUTS.items() if layout.num_classes == num_classes and layout.file
                 and set(classes) <= set(_shipped(name))), None)


@cache
def _descriptions() -> dict[str, str]:
    """What WordNet calls each synset: ``'tench, Tinca tinca'``."""
    lines = files('timm.data').joinpath('_info', 'imagenet_synset_to_lemma.txt').read_text().splitlines()
    return dict(line.split('\t') for line in lines)


def is_synset(name: str) -> bool:
    """Whether a name is written as a synset, ``n01440764``."""
    return bool(_SYNSET.fullmatch(name))


def describe_class(name: str) -> str:
    """What people call a class: the words of WordNet where it is a synset that is known, or else its name."""
    return _descriptions().get(name, name) if is_synset(name) else name


def short_name(name: str) -> str:
    """What to call a class where there is little room: a synset by the first of its words, ``n02979186`` as
    ``'cassette player'``; any other name as it is.
    """
    return describe_class(name).split(',')[0] if is_synset(name) else name


# ---------------------------------------------------------------- two lists of classes
def list_classes(classes: ClassList) -> tuple[str, ...]:
    """The names of classes in label order: those of a layout, see :func:`synsets`, or the names as they are given."""
    return synsets(classes) if isinstance(classes, str | int | os.PathLike) else tuple(map(str, classes))


def find_classes(source: ClassList, target: ClassList, several: bool = False) -> np.ndarray:
    """Which class of one list each class of another one is.

    Two synsets are the same class if they are equal. Names are, too, and if they share a word of WordNet between
    commas, whatever their case, spaces and underscores: ``golden_retriever``, ``n02099601`` and ``'golden retriever'``.
    A name that could be several classes, as ``crane``, is none, but for a list that has all of a layout in its order.

    Args:
        source, target: The lists.
        several: Whether several names of ``target`` may be one class; otherwise those are none.

    Returns:
        ``(classes of target,)`` int64: index into ``source``, -1 for a class that it does not have.
    """
    source, target = to_synsets(list_classes(source)), to_synsets(list_classes(target))
    position = {name: number for number, name in enumerate(source)}
    index = np.array([position.get(name, -1) for name in target], np.int64)
    rows, owners = np.flatnonzero(index < 0), defaultdict(set)
    if all(map(is_synset, (*source, *target))):
        return index
    for number, name in enumerate(source):
        for alias in _aliases(name):
            owners[alias].add(number)
    for row in rows:
        found = {number for alias in _aliases(target[row]) for number in owners[alias]
                 if not (is_synset(target[row]) and is_synset(source[number]))}
        if len(found) == 1:
            index[row] = found.pop()
    twice = [number for number, count in Counter(index.tolist()).items() if count > 1 and not several]
    index[rows] = np.where(np.isin(index[rows], twice), -1, index[rows])
    return index


def _aliases(name: str) -> set[str]:
    return {_plain(part) for part in (name, *describe_class(name).split(', '))}


def to_synsets(names: Sequence[str]) -> tuple[str, ...]:
    """The synsets of a layout, where the names are what people call its classes, one by one; else the names."""
    layout = _NAMES.get(str(len(names)))
    if not layout or not LAYOUTS[layout].file or all(map(is_synset, names)):
        return tuple(names)
    known = _shipped(layout)
    same = all(name == synset or _aliases(name) & _aliases(synset) for name, synset in zip(names, known, strict=True))
    return known if same else tuple(names)


def match_classes(source: ClassList = 'fall11', target: ClassList = 'in1k', several: bool = False) -> np.ndarray:
    """:func:`find_classes`, where there must be something to find.

    Args:
        source: Layout of a head, as for :func:`synsets`, or the names of its classes.
        target: Layout that is wanted; likewise.
        several: As for :func:`find_classes`.

    Raises:
        UserError: A layout is not known, see :func:`synsets`, or the two have no class in common.
    """
    index = find_classes(source, target, several)
    if index.max() < 0:
        names = [layout if isinstance(layout, str | int | os.PathLike) else spell_classes(layout)
                 for layout in (source, target)]
        raise UserError(f'The label layouts {names[0]} and {names[1]} have no class in common: their lists must hold '
                        'synsets such as n01440764.')
    return index


def same_classes(ours: ClassList, theirs: ClassList) -> bool:
    """Whether two lists name the same classes in the same order, see :func:`find_classes`."""
    ours, theirs = list_classes(ours), list_classes(theirs)
    return ours == theirs or len(ours) == len(theirs) and bool((find_classes(ours, theirs) == range(len(ours))).all())


def require_same_classes(ours: Sequence[str], theirs: Sequence[str], sentence: str, advice: str) -> None:
    """Make sure that two lists name the same classes in the same order.

    Args:
        ours, theirs: Names of classes in label order.
        sentence: What the error begins with; ``{ours}`` and ``{theirs}`` stand for the lists.
        advice: What it ends with.

    Raises:
        UserError: They do not; names both, and where they part.
    """
    if not same_classes(ours, theirs):
        differ = find_classes(ours, theirs) != np.arange(len(theirs))
        first = int(np.append(differ, True).argmax())
        names = [str(names[first]) if first < len(names) else 'nothing' for names in (ours, theirs)]
        text = sentence.format(ours=spell_classes(ours), theirs=spell_classes(theirs))
        raise UserError(f'{text}; number {first} is {names[0]} there and {names[1]} here: {advice}')


def require_classes(ours: Sequence[str], theirs: Sequence[str], sentence: str, advice: str,
                    several: bool = False) -> np.ndarray:
    """The number among ``ours`` of each class of ``theirs``, see :func:`find_classes`, ``(classes of theirs,)`` int64.

    Args:
        ours, theirs, sentence, advice: As for :func:`require_same_classes`.
        several: As for :func:`find_classes`.

    Raises:
        UserError: One of them is not among ``ours``, or could be several; names it, and both lists.
    """
    index = find_classes(ours, theirs, several)
    lost = [name for name, number in zip(theirs, index, strict=True) if number < 0]
    if lost:
        text = sentence.format(ours=spell_classes(ours), theirs=spell_classes(theirs))
        raise UserError(f'{text}; of the latter {spell_classes(lost)} cannot be told among the former: {advice}')
    return index


def spell_classes(names: Sequence[str]) -> str:
    """``'10 classes (n01440764, n02102040, n02979186, ...)'``."""
    names = list(map(str, names))
    shown = ', '.join(name if len(name) <= 40 else f'{name[:37]}...' for name in names[:3])
    return f'{len(names):,} class{"es" * (len(names) != 1)} ({shown}{", ..." if len(names) > 3 else ""})'


def spell_matches(names: Sequence[str], index: Sequence[int], classes: Sequence[str]) -> str:
    """``'cat: 281 (tabby, tabby cat), dog: 207 (golden retriever) and 8 more'``, for a line of the log.

    Args:
        names: Classes.
        index: The number of each among ``classes``; those with -1 are left out.
        classes: Names in order.
    """
    pairs = [f'{name}: {number} ({describe_class(classes[number])})' for name, number in zip(names, index, strict=True)
             if number >= 0]
    more = f' and {len(pairs) - _SHOWN:,} more' if len(pairs) > _SHOWN else ''
    return ', '.join(pairs[:_SHOWN]) + more


def checkpoint_classes(meta: Mapping[str, Any], teacher_store: Mapping[str, Any] | None = None
                       ) -> tuple[str, ...] | None:
    """What a checkpoint's ``meta``, and its ``teacher_store``, say the outputs are called; None if they do not.

    The outputs of a student are the classes of its teacher. Its ``dataset_meta``, where older checkpoints of students
    have the classes of the images, does not say what the teacher's are called; what it knows of its store does.
    """
    store = meta.get('teacher_store', teacher_store)
    said = meta.get('dataset_meta') if store is None else store
    classes = said.get('classes') if isinstance(said, Mapping) else None
    return tuple(map(str, classes)) if classes and isinstance(classes, list | tuple) else None
