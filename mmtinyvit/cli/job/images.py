"""The images of a job: found in any layout, listed once, and split where a test needs some of them."""
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmtinyvit.datasets.images.data_root import DataRoot
from mmtinyvit.datasets.images.index import ImageIndex
from mmtinyvit.datasets.images.layouts import find_sources
from mmtinyvit.datasets.images.scan import index_images, rejected_file, split_archive
from mmtinyvit.errors import UserError
from mmtinyvit.store.files import write_atomically
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.keys import key_hash

__all__ = ['ImageSet', 'find_images', 'list_images', 'split_images']

TRAIN, VAL = ('train', 'training'), ('val', 'valid', 'validation', 'test')  # folders that a data set may be split into
HELD_OUT = 10  # every tenth image of a class is tested on, if there is no split

OnProgress = Callable[[str, int, int, int], None]


class ImageSet(NamedTuple):
    """Images and their index.

    Attributes:
        root: Folder or URL, absolute; an archive's is the folder that holds it.
        index: The image index.
        keep: List of the keys to keep; None for all.
        count: How many images.
        classes: Names of the classes in label order; empty without labels.
        rejected: How many images do not decode.
    """
    root: str
    index: str
    keep: str | None
    count: int
    classes: tuple[str, ...]
    rejected: int = 0


def find_images(data: str, name: str, layout: str | None = None, match: str | None = None) -> tuple[str, str | None]:
    """Where the images are, and the folder of those to test on if the data set is split into folders.

    Args:
        data: Folder, archive or URL.
        name: Of the setting, for the sentence.
        layout, match: As for :func:`~mmtinyvit.datasets.images.scan.index_images`.

    Raises:
        UserError: There is nothing, or no images in a layout that is known.
    """
    if is_url(data):
        return data.rstrip('/'), None
    path = os.path.abspath(data)
    if not os.path.exists(path):
        raise UserError(f'{name}={data} does not exist: name the folder or archive with the images.')
    val = None
    if os.path.isdir(path):
        found = [os.path.join(path, each) for each in TRAIN if os.path.isdir(os.path.join(path, each))]
        tests = [os.path.join(path, each) for each in VAL if os.path.isdir(os.path.join(path, each))]
        if found and tests:
            path, val = found[0], tests[0]
    folder, archive = split_archive(path)
    with as_settings():
        find_sources(DataRoot(folder), layout, match, archive)  # refuses what holds no images
    return path, val


def list_images(data: str, index: Path, on_progress: OnProgress, classes: tuple[str, ...] | None = None,
                **options: str | None) -> ImageSet:
    """Write the index of ``data``, if that is not done; each image is decoded once, and broken ones are left out.

    Args:
        data: From :func:`find_images`.
        index: The file.
        on_progress: As for :func:`~mmtinyvit.datasets.images.scan.index_images`.
        classes: In label order, for images to test on; by default those that are found, sorted.
        **options: ``layout``, ``match`` and ``labels`` of ``index_images``.
    """
    facts = index.with_suffix('.json')
    if not facts.is_file():
        index.parent.mkdir(parents=True, exist_ok=True)
        with as_settings():
            summary = index_images(data, index, classes, missing_classes='keep', check='cv2', on_progress=on_progress,
                                   **options)
        write_atomically(facts, [json.dumps(dict(data=data, rejected=summary.rejected)).encode()])
    found = ImageIndex(index)
    root = split_archive(data)[0]
    rejected = json.loads(facts.read_text())['rejected']
    if not len(found):
        raise UserError(f'None of the {rejected} images in {data} decodes: see {rejected_file(index)}.')
    return ImageSet(root, str(index), None, len(found), tuple(found.classes), rejected)


@contextmanager
def as_settings() -> Iterator[None]:
    """What the index would have as flags, a sentence names as the settings of a job."""
    try:
        yield
    except UserError as error:
        raise UserError(re.sub(r'--(layout|match|labels) ?', r'\1=', str(error))) from error


def split_images(images: ImageSet, folder: Path) -> tuple[ImageSet, ImageSet]:
    """Hold out every tenth image of each class, at least one of two, whatever the order: by the hash of its key.

    Returns:
        tuple: The images to learn from, and those to test on.
    """
    index = ImageIndex(images.index)
    keys = list(index.keys())
    order = sorted(range(len(keys)), key=lambda row: (index.labels[row], key_hash(keys[row])))
    held = np.zeros(len(keys), bool)
    place: dict[int, int] = {}
    for row in order:
        label = int(index.labels[row])
        place[label] = place.get(label, -1) + 1
        held[row] = place[label] % HELD_OUT == 1
    parts = []
    for name, rows in (('train', np.flatnonzero(~held)), ('val', np.flatnonzero(held))):
        path = folder / f'{Path(images.index).stem}_{name}.txt'
        write_atomically(path, (f'{keys[row]}\n'.encode() for row in rows))
        parts.append(images._replace(keep=str(path), count=len(rows)))
    if not parts[1].count:
        raise UserError(f'{images.root} has one image per class, so that none can be held out to test on: name others '
                        'with val=FOLDER.')
    return parts[0], parts[1]
