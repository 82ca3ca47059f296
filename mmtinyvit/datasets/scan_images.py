"""Scanning a data root into an image index: class per folder, or one zip file per class."""
import itertools
import os
import posixpath
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .image_index import ImageIndexWriter
from .zip_members import ZipMember, scan_zip

__all__ = ['IMAGE_SUFFIXES', 'ScanSummary', 'find_classes', 'index_images']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
_BATCH = 256  # classes in flight; bounds the memory of a scan


class ScanSummary(NamedTuple):
    """What an index holds: classes, images, and the classes without any image."""
    num_classes: int
    num_images: int
    empty_classes: tuple[str, ...]


def find_classes(data_root: str | os.PathLike, zipped: bool) -> list[str]:
    """Class names in ``data_root``, sorted: its folders, or its zip files without the suffix.

    Raises:
        UserError: The folder is missing or holds no class in this layout.
    """
    try:
        with os.scandir(data_root) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith('.'))
    except OSError as error:
        raise UserError(f'The data root {os.fspath(data_root)} cannot be listed ({error.strerror}): name the folder '
                        'that holds one folder or one zip file per class.') from error
    archives = [name[:-len('.zip')] for name, is_dir in found if not is_dir and name.endswith('.zip')]
    folders = [name for name, is_dir in found if is_dir]
    if classes := archives if zipped else folders:
        return classes
    other = ' (its zip files need --zip)' if archives else ' (its folders need no --zip)' if folders else ''
    raise UserError(f'{os.fspath(data_root)} holds no {"zip file" if zipped else "folder"} to be a class{other}.')


def index_images(data_root: str | os.PathLike,
                 out: str | os.PathLike,
                 classes: Sequence[str] | None = None,
                 zipped: bool = False,
                 workers: int = 8,
                 on_class: Callable[[int, int], None] = lambda done, images: None) -> ScanSummary:
    """List all images under ``data_root`` and write the index ``out``.

    The order is fixed by the names alone: classes in label order, and the images of a class sorted by key. Two layouts
    of the same images, folders and zip files, get the same keys in the same order.

    Args:
        data_root: Folder with one folder or one zip file per class.
        out: The index file, written in one piece at the end.
        classes: Class names in label order; all that are found, sorted, by default. Others in
            ``data_root`` are left out.
        zipped: Whether the classes are zip files.
        workers: Threads that list classes; more than the cores pays on network file systems.
        on_class: Called with the numbers of classes and images so far.

    Raises:
        UserError: A class is missing or listed twice, a zip file is unreadable, there is no image at all, or ``out`` is
            not writable.
    """
    data_root = os.fspath(data_root)
    found = find_classes(data_root, zipped)
    if classes is None:
        classes = found
    elif len(set(classes)) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise UserError(f'The class list names {twice} twice: keep one of them.')
    elif missing := sorted(set(classes) - set(found)):
        raise UserError(f'{len(missing)} of the {len(classes)} listed classes are not in {data_root}, {missing[0]} '
                        'among them: complete the data, or list only what is there.')
    scan = partial(_scan_archive if zipped else _scan_folder, data_root)
    num_images, empty = 0, []
    with ImageIndexWriter(out, classes, zipped) as writer, ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(classes), _BATCH):
            batch = classes[first:first + _BATCH]
            for label, (name, (keys, members)) in enumerate(zip(batch, pool.map(scan, batch), strict=True), first):
                writer.add(label, keys, members)
                num_images += len(keys)
                if not keys:
                    empty.append(name)
                on_class(label + 1, num_images)
        if not num_images:
            raise UserError(f'No image lies under {data_root}: put files ending in {", ".join(IMAGE_SUFFIXES)} there.')
    return ScanSummary(len(classes), num_images, tuple(empty))


def _scan_folder(data_root: str, name: str) -> tuple[list[str], tuple[ZipMember, ...]]:
    root = Path(data_root, name)
    files = (Path(folder, file) for folder, _, files in os.walk(root, followlinks=True) for file in files)
    return sorted(f'{name}/{file.relative_to(root).as_posix()}' for file in files if _is_image(file.name)), ()


def _scan_archive(data_root: str, name: str) -> tuple[list[str], list[ZipMember]]:
    archive = os.path.join(data_root, f'{name}.zip')
    # Archives differ in the folder they put their members under; the class is the archive's own name.
    found = sorted((f'{name}/{posixpath.basename(member_name)}', member)
                   for member_name, member in zip(*scan_zip(archive), strict=True) if _is_image(member_name))
    for (key, _), (other, _) in itertools.pairwise(found):
        if key == other:
            name = posixpath.basename(key)
            raise UserError(f'{archive} holds {name} twice, in two of its folders: keep one of them.')
    return [key for key, _ in found], [member for _, member in found]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
