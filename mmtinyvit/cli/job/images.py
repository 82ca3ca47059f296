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
from mmtinyvit.datasets.images.remote_index import local_index
from mmtinyvit.datasets.images.scan import index_images, rejected_file, split_archive
from mmtinyvit.errors import UserError
from mmtinyvit.store.files import write_atomically
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.keys import key_hash

__all__ = ['ImageSet', 'find_images', 'list_images', 'refuse_inside', 'split_images']

TRAIN, VAL = ('train', 'training'), ('val', 'valid', 'validation', 'test')  # folders that a data set may be split into
INDEX = '.index'  # ends the name of what `mmtinyvit index` wrote
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
        data: Folder or archive, or an image index; or the URL of one.
        name: Of the setting, for the sentence.
        layout, match: As for :func:`~mmtinyvit.datasets.images.scan.index_images`.

    Raises:
        UserError: There is nothing, or no images in a layout that is known.
    """
    if data.endswith(INDEX) and (layout or match):
        raise UserError(f'layout= and match= are of a folder, and {name}={data} is an image index: leave them out.')
    if is_url(data):
        return data.rstrip('/'), None
    path = os.path.abspath(data)
    if not os.path.exists(path):
        raise UserError(f'{name}={data} does not exist: name the folder or archive with the images.')
    if path.endswith(INDEX):
        return path, None
    val = None
    if os.path.isdir(path):
        found = [os.path.join(path, each) for each in TRAIN if os.path.isdir(os.path.join(path, each))]
        tests = [os.path.join(path, each) for each in VAL if os.path.isdir(os.path.join(path, each))]
        if found and tests:
            path, val = found[0], tests[0]
    folder, archive = split_archive(path)
    if not os.path.isdir(folder):
        raise UserError(f'{name}={data} is a file, and no archive (.zip, .tar) or image index (.index): name the '
                        'folder with the images.')
    with as_settings():
        find_sources(DataRoot(folder), layout, match, archive)  # refuses what holds no images
    return path, val


def list_images(data: str, index: Path, on_progress: OnProgress, classes: tuple[str, ...] | None = None,
                **options: str | None) -> ImageSet:
    """Write the index of ``data``, if that is not done; each image is decoded once, and broken ones are left out.

    Where ``data`` is an index already, it is taken as it is.

    Args:
        data: From :func:`find_images`.
        index: The file.
        on_progress: As for :func:`~mmtinyvit.datasets.images.scan.index_images`.
        classes: In label order, for images to test on; by default those that are found, sorted.
        **options: ``layout``, ``match`` and ``labels`` of ``index_images``.

    Raises:
        UserError: There is no image that decodes; or the index that ``data`` is was written without looking, or is
            asked for other labels than it has.
    """
    if data.endswith(INDEX):
        return _listed_before(data, classes, options.get('labels'))
    facts, asked = index.with_suffix('.json'), json.loads(json.dumps(dict(data=data, classes=classes, **options)))
    if not facts.is_file() or json.loads(facts.read_text())['asked'] != asked:
        index.parent.mkdir(parents=True, exist_ok=True)
        facts.unlink(missing_ok=True)
        with as_settings():
            summary = index_images(data, index, classes, missing_classes='keep', check='cv2', on_progress=on_progress,
                                   **options)
        write_atomically(facts, [json.dumps(dict(asked=asked, rejected=summary.rejected)).encode()])
    found = ImageIndex(index)
    root = split_archive(data)[0]
    rejected = json.loads(facts.read_text())['rejected']
    if not len(found):
        raise UserError(f'None of the {rejected} images in {data} decodes: see {rejected_file(index)}.')
    return ImageSet(root, str(index), None, len(found), tuple(found.classes), rejected)


def _listed_before(path: str, classes: tuple[str, ...] | None, labels: str | None) -> ImageSet:
    """The images of an index that ``mmtinyvit index --check`` wrote beside them."""
    if labels:
        raise UserError(f'labels={labels} is of a folder, and {path} is an image index, which has its own: leave it '
                        'out.')
    found = ImageIndex(local_index(path))
    root = path.rpartition('/')[0] or '/'
    again = f'write it again with "mmtinyvit index {root} --check'
    if not found.checked:
        raise UserError(f'{path} lists images that nobody has decoded, and one that is broken would stop the job: '
                        f'{again}".')
    if not len(found):
        raise UserError(f'The image index {path} lists no image: {again}".')
    if classes is not None and tuple(found.classes) != classes:
        raise UserError(f'{path} is of other classes than the images to learn from: {again} --classes FILE".')
    return ImageSet(root, path, None, len(found), tuple(found.classes))


def refuse_inside(out: Path, **images: str | None) -> None:
    """Raises :class:`UserError` if a job would write into a folder of its images, where it would be taken for some.

    Args:
        out: Its folder.
        **images: Folders by the name of their setting; archives, URLs and None are passed over.
    """
    for name, data in images.items():
        if data and os.path.isdir(data) and out.resolve().is_relative_to(Path(data).resolve()):
            raise UserError(f'out={out} lies in {name}={data}, whose folders are taken for classes: choose an out '
                            'outside of it.')


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
