"""Data sets of images in class folders, read as they are or over an image index.

Their samples have names and never stand in for each other.
"""
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset, CustomDataset
from mmpretrain.datasets import ImageNet as _ImageNet

from ..errors import UserError
from ..registry import DATASETS
from ..store.folders import is_url
from ..store.keys import key_hash
from .images.data_root import DataRoot, is_hidden, join_root
from .images.index import ImageIndex
from .images.listing import IMAGE_SUFFIXES, count_ending
from .images.members import require_size
from .images.remote_bytes import remote_size
from .images.remote_index import local_index
from .transforms import MapLabel
from .view_dataset import load_batch, load_sample
from .views import iter_transforms

__all__ = ['ImageFolder', 'ImageNet', 'IndexedImages', 'NamedSamples']


def require_folder(path: str, source: str) -> None:
    """Raise :class:`UserError`, which ends in ``source``, if the local folder ``path`` is missing or not named."""
    if not path:
        raise UserError('The dataset names no folder of images: set its data_root.')
    if '://' not in path and not os.path.isdir(path):
        advice = source or 'change data_root in the config.'
        raise UserError(f'The image folder {os.path.normpath(path)} does not exist: {advice}')


def _listed(path: str) -> np.ndarray:
    """``(n,)`` uint64, the names of the samples that a list of keys has; 14 million keys do not belong in memory.

    Two of so many keys share a name once in a hundred thousand lists, and then one sample too many is kept.
    """
    try:
        with open(path, encoding='utf-8') as file:
            return np.fromiter((key_hash(line.rstrip('\n')) for line in file), np.uint64)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}, the list of samples to keep, cannot be read '
                        f'({getattr(error, "strerror", None) or "it is no text"}): correct keep=, or write it with '
                        '`tools/logit_store.py clean`.') from error


class NamedSamples:
    """Mixin that comes before a ``BaseDataset``.

    ``BaseDataset`` draws another sample when a pipeline returns None, so that a stored target would be applied to the
    wrong image. Here that is an error which names the sample. Every sample carries its identity:

    Added keys: ``sample_key``, the path below ``img_prefix`` with forward slashes.

    Args:
        *args, **kwargs: Of the dataset.
        keep: Text file with the keys of the samples to keep, one a line, as `tools/logit_store.py clean` writes it. The
            others are left out, and keys that are not in the dataset play no role.
        share: Keep this share of the samples, more than 0 and at most 1, and at least one of them, drawn at random and
            left in their order; of ``indices`` and ``keep``, if these are given too. None keeps all.
        share_seed: Names the draw. A smaller share with the same seed is a part of a larger one.

    Raises:
        UserError: ``share`` is no such number, the list cannot be read, or names no sample of the dataset.
    """

    def __init__(self, *args, keep: str | None = None, share: float | None = None, share_seed: int = 0,
                 **kwargs) -> None:
        if share is not None and not 0 < share <= 1:
            raise UserError(f'share={share} of a dataset must be more than 0 and at most 1: 0.1 keeps a tenth.')
        self.keep, self.share, self.share_seed = keep, share, share_seed
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """List the samples, choose among them, and tell what their classes are called to the transforms that ask."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.keep is not None or self.share is not None:
            try:
                chosen = self._chosen(len(self), (self.get_data_info(i)['sample_key'] for i in range(len(self))))
            except UserError:
                self._fully_initialized = False
                raise
            self.get_subset_(chosen.tolist())
        self._name_classes()

    def _chosen(self, total: int, keys: Iterable[str]) -> np.ndarray:
        """Positions, ascending, of what ``keep`` and ``share`` leave of ``total`` samples with these keys."""
        chosen = np.arange(total)
        if self.keep is not None:
            chosen = np.flatnonzero(np.isin(np.fromiter(map(key_hash, keys), np.uint64, total), _listed(self.keep)))
            if not len(chosen):
                raise UserError(f'None of the {total} samples below {self.img_prefix} is named in {self.keep}: give '
                                'keep= a list that was made of these images.')
        if self.share is not None:
            count = max(1, round(self.share * len(chosen)))
            chosen = chosen[np.sort(np.random.default_rng(self.share_seed).permutation(len(chosen))[:count])]
        return chosen

    def _name_classes(self) -> None:
        for transform in iter_transforms(self):
            if isinstance(transform, MapLabel):
                transform.name_classes(self.metainfo.get('classes'))

    def __getitem__(self, idx: int) -> dict:
        self.full_init()
        return self.prepare_data(idx)

    def prepare_data(self, idx: int) -> dict:
        """The sample, passed through the pipeline."""
        return load_sample(self.pipeline, self.get_data_info(idx))

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The samples of a batch, the same as one by one, which the loader asks for."""
        self.full_init()
        own = type(self)
        if own.__getitem__ is not NamedSamples.__getitem__ or own.prepare_data is not NamedSamples.prepare_data:
            return [self[idx] for idx in indices]
        return load_batch(self, [self.get_data_info(idx) for idx in indices])

    def get_data_info(self, idx: int) -> dict:
        """The sample's dict with ``sample_key`` added."""
        info = super().get_data_info(idx)
        if 'sample_key' not in info:
            info['sample_key'] = PurePath(os.path.relpath(info['img_path'], self.img_prefix)).as_posix()
        return info


class _Folders(NamedSamples):
    """Folders listed by the rules of the image index; missing and empty ones become one sentence.

    Hidden files, resource forks and folders of the system are no images and no classes, links in circles are followed
    once, and what is left out is counted in the log.

    Args:
        extensions: Endings of images; those of the image index by default.
        source: How the data can be had; ends the message when the folder is missing.
        **kwargs: As for the mmpretrain dataset of the same layout; ``keep``, ``share`` and ``share_seed`` of
            :class:`NamedSamples`.
    """

    def __init__(self, *, source: str = '', **kwargs) -> None:
        self.source = source
        try:
            super().__init__(**{'extensions': IMAGE_SUFFIXES, **kwargs})
        except ImportError as error:  # mmengine needs other libraries for URLs
            places = [kwargs.get(name) or '' for name in ('data_root', 'data_prefix')]
            place = next((place for place in places if isinstance(place, str) and is_url(place)), None)
            if place is None:
                raise
            raise UserError(f'The folders at {place} cannot be listed anew for each run: list them once with '
                            'tools/dataset_converters/index_images.py and use mmtinyvit.IndexedImages.') from error

    def load_data_list(self) -> list[dict]:
        """Scan the folders. A missing one, one without images or a wrong number of classes is a :class:`UserError`."""
        require_folder(self.img_prefix, self.source)
        try:
            return super().load_data_list()
        except (OSError, ValueError) as error:  # of the list, or of a folder in a place without permission
            advice = 'check the path; a list has lines of `path number`' if self.ann_file else 'check its permissions'
            raise UserError(f'{self.ann_file or self.img_prefix} cannot be read '
                            f'({getattr(error, "strerror", None) or error}): {advice}.') from error
        except RuntimeError as error:
            raise UserError(f'The image folder {self.img_prefix} holds no image in a class folder{self._instead()}: '
                            f'put files ending in {", ".join(sorted(self.extensions))} there, or list what it holds '
                            'with tools/dataset_converters/index_images.py and use mmtinyvit.IndexedImages, which '
                            'takes other folders, archives, and images without labels.') from error

    def is_valid_file(self, filename: str) -> bool:
        """Whether a path below ``img_prefix`` is an image's."""
        return super().is_valid_file(filename) and not is_hidden(filename)

    def _find_samples(self) -> list:
        """Paths below ``img_prefix``, in the order of mmpretrain's, with labels where they are asked for."""
        if is_url(self.img_prefix):
            return super()._find_samples()
        root, others, samples = DataRoot(self.img_prefix), Counter(), []
        classes = [entry.name for entry in root.entries() if entry.is_dir] if self.with_label else ['']
        if self.with_label and self.CLASSES is None:
            self._metainfo['classes'] = tuple(classes)
        elif self.with_label and len(self.CLASSES) != len(classes):
            raise UserError(f'The image folder {self.img_prefix} cannot be used: it has {len(classes)} class folders, '
                            f'and {len(self.CLASSES)} classes are named: complete it, or name another data_root.')
        self.folder_to_idx = {folder: label for label, folder in enumerate(classes)}  # as mmpretrain has it
        empty = []
        for label, folder in enumerate(classes):
            found = sorted(root.walk(folder))
            names = list(filter(self.is_valid_file, found))
            others.update(count_ending(name) for name in found if not self.is_valid_file(name))
            samples += [(name, label) for name in names] if self.with_label else names
            empty += [folder] * (not names)
        if not samples:
            raise RuntimeError('no image')
        counts = [f'{count:,} {ending}' for ending, count in others.most_common()]
        for what, left_out in (('files that are no images', counts), ('class folders without an image', empty)):
            if left_out:
                print_log(f'{self.img_prefix} has {what}: {", ".join(left_out)}.', 'current', logging.WARNING)
        return samples

    def _instead(self) -> str:
        """What an image folder without class folders has."""
        if is_url(self.img_prefix):
            return ''
        names = sorted(os.listdir(self.img_prefix))
        images, archives = ([name for name in names if name.lower().endswith(endings)]
                            for endings in (tuple(IMAGE_SUFFIXES), ('.tar', '.zip', '.tgz', '.tar.gz')))
        if images:
            return f', but images in itself, such as {images[0]}'
        return f', but archives, such as {archives[0]}' if archives else ''


@DATASETS.register_module()
class ImageFolder(_Folders, CustomDataset):
    """Class per folder, class names from the folders: ``mmpretrain.CustomDataset`` with named samples.

    Folders are numbered in the order of their names, or of ``metainfo=dict(classes=...)`` if that lists their names;
    other classes are further names for the folders in sorted order.
    """

    def _find_samples(self) -> list[tuple[str, int]]:
        samples = super()._find_samples()
        if self.with_label and set(self.CLASSES) == set(self.folder_to_idx):
            numbers = {label: self.CLASSES.index(name) for name, label in self.folder_to_idx.items()}
            samples = [(path, numbers[label]) for path, label in samples]
        return samples


@DATASETS.register_module()
class ImageNet(_Folders, _ImageNet):
    """ImageNet-1K in the layouts of ``mmpretrain.ImageNet``, with named samples."""


@DATASETS.register_module()
class IndexedImages(NamedSamples, BaseDataset):
    """Images listed by an index, see :mod:`.images.index`; usable wherever ``mmpretrain.ImageNet`` is.

    Each sample has the keys ``img_path``, ``sample_key``, ``sample_idx``, ``gt_label`` if the images have labels, and
    for images in archives ``archive_member``, which ``mmtinyvit.LoadImage`` reads. Subsets are slices or arrays of
    positions.

    Args:
        ann_file: The index, absolute, at a URL or below ``data_root``; `tools/dataset_converters/index_images.py`
            writes it. One at a URL is fetched once and kept, see :mod:`.images.remote_index`.
        data_root: Folder or URL that holds the images' folders or archives.
        num_classes: Number of classes that the recipe expects; None takes any.
        source: How the data can be had; ends the message when it is missing.
        **kwargs: As for ``mmpretrain.BaseDataset``: ``data_prefix``, ``indices``, ``pipeline`` and others;
            ``keep``, ``share`` and ``share_seed`` of :class:`NamedSamples`.

    Raises:
        UserError: Data or index is missing, the index does not fit the data or ``num_classes``, or nothing is left.
    """

    def __init__(self, ann_file: str = 'images.index', data_root: str = '', *, num_classes: int | None = None,
                 source: str = '', **kwargs) -> None:
        self.num_classes = num_classes
        self.source = source
        self._positions: np.ndarray | range = range(0)
        super().__init__(ann_file, data_root=data_root, serialize_data=False, **kwargs)

    def full_init(self) -> None:
        """Map the index; milliseconds at any size."""
        if self._fully_initialized:
            return
        require_folder(self.img_prefix, self.source)
        self.index = ImageIndex(local_index(self.ann_file))
        if self.num_classes not in (None, len(self.index.classes)):
            raise UserError(f'The image index {self.ann_file} has {len(self.index.classes)} classes, but '
                            f'{self.num_classes} are expected: write it again with --classes, or change num_classes.')
        if self.index.classes:
            self._metainfo.setdefault('classes', self.index.classes)
        self._name_classes()
        self._positions = range(len(self.index))
        if self._indices is not None:
            self._positions = self._selected(self._indices)
        if self.keep is not None or self.share is not None:
            self._positions = self._selected(self._chosen(len(self._positions), self._position_keys()))
        self._fully_initialized = True
        if len(self._positions):
            try:
                self._require_first()
            except UserError:
                self._fully_initialized = False
                raise

    def _require_first(self) -> None:
        """One look at the disk or bucket, so that a moved data root is told before any work is done."""
        first = self.get_data_info(0)
        member = first.get('archive_member')
        path = first['img_path'] if member is None else member.archive
        if is_url(path):
            size = remote_size(path)
            if member is not None:
                require_size(member, size)
        elif not os.path.exists(path):
            raise UserError(f'{path}, the first entry of the image index {self.ann_file}, does not exist: change '
                            'data_root, or write the index again with tools/dataset_converters/index_images.py.')

    def _join_prefix(self) -> None:
        """Put ``data_root`` before what is relative, as mmengine does, which needs other libraries for URLs."""
        def joined(path: str) -> str:
            relative = self.data_root and not is_url(path) and not os.path.isabs(path)
            return join_root(self.data_root, path) if relative else path

        self.ann_file = joined(self.ann_file) if self.ann_file else self.ann_file
        self.data_prefix = {name: joined(prefix) for name, prefix in self.data_prefix.items()}

    def get_data_info(self, idx: int) -> dict:
        """The sample at ``idx``, made from the index on the spot."""
        self.full_init()
        position = int(self._positions[idx])
        path, member = self.index.place(position, self.img_prefix)
        info = {'sample_key': self.index.key(position), 'sample_idx': idx % len(self), 'img_path': path}
        if member is not None:
            info['archive_member'] = member
        if (label := self.index.labels[position].item()) >= 0:
            info['gt_label'] = label
        return info

    def __len__(self) -> int:
        self.full_init()
        return len(self._positions)

    def get_subset(self, indices: int | Sequence[int]) -> 'IndexedImages':
        """A dataset over the first ``indices`` samples, the last ``-indices``, or those listed."""
        self.full_init()
        subset = self._copy_without_annotation()
        subset.get_subset_(indices)
        return subset

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """:meth:`get_subset` in place."""
        self.full_init()
        self._positions = self._selected(indices)

    def _selected(self, indices: int | Sequence[int]) -> np.ndarray | range:
        if isinstance(indices, int):
            chosen = self._positions[:indices] if indices >= 0 else self._positions[indices:]
        else:
            try:
                chosen = np.asarray(self._positions)[np.asarray(indices, np.int64)]
            except IndexError:
                raise UserError(f'`indices` reach from {min(indices)} to {max(indices)}, but the image index '
                                f'{self.ann_file} has {len(self._positions)} samples: correct them.') from None
        if not len(chosen):
            raise UserError(f'No sample is left of the image index {self.ann_file}: change `indices`.')
        return chosen

    def get_gt_labels(self) -> np.ndarray:
        """Labels of all samples, ``(N,)`` int64. Raises :class:`UserError` if they have none."""
        self.full_init()
        if not self.index.classes:
            raise UserError(f'The images of {self.ann_file} have no labels: write the index again with --labels.')
        self.index.require_intact()
        return self.index.labels[np.asarray(self._positions)].astype(np.int64)

    def iter_sample_keys(self) -> Iterator[str]:
        """The keys of all samples in order, one at a time."""
        self.full_init()
        return self._position_keys()

    def _position_keys(self) -> Iterator[str]:
        if isinstance(self._positions, range):
            return self.index.keys(self._positions.start, self._positions.stop)
        return map(self.index.key, self._positions.tolist())
