"""Images that an index lists, in folders and archives, here or at a URL."""
import os
from collections.abc import Iterator, Sequence

import numpy as np
from mmpretrain.datasets import BaseDataset

from ..errors import UserError
from ..registry import DATASETS
from ..store.folders import is_url
from .images.data_root import join_root
from .images.index import ImageIndex
from .images.members import require_size
from .images.remote_bytes import remote_size
from .images.remote_index import local_index
from .named_samples import NamedSamples, note_order_of_numbers, require_folder

__all__ = ['IndexedImages']


@DATASETS.register_module()
class IndexedImages(NamedSamples, BaseDataset):
    """Images listed by an index, see :mod:`.images.index`; usable wherever ``mmpretrain.ImageNet`` is.

    Each sample has the keys ``img_path``, ``sample_key``, ``sample_idx``, ``gt_label`` if the images have labels, and
    for images in archives ``archive_member``, which ``mmtinyvit.LoadImage`` reads. Subsets are slices or arrays of
    positions.

    Args:
        ann_file: The index, absolute, at a URL or below ``data_root``; ``mmtinyvit index``
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
            note_order_of_numbers(self.index.classes, self.ann_file)
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
                            'data_root, or write the index again with "mmtinyvit index".')

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
