"""Images in class folders, which are listed when a run starts."""
import logging
import os
from collections import Counter

from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets import ImageNet as _ImageNet

from ..errors import UserError
from ..registry import DATASETS
from ..store.folders import is_url
from .images.data_root import DataRoot, is_hidden
from .images.listing import IMAGE_SUFFIXES, count_ending
from .named_samples import NamedSamples, note_order_of_numbers, require_folder

__all__ = ['ImageFolder', 'ImageNet']


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
                            '"mmtinyvit index" and use mmtinyvit.IndexedImages.') from error

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
                            'with "mmtinyvit index" and use mmtinyvit.IndexedImages, which '
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
        if self.with_label and tuple(self.CLASSES) != tuple(self.folder_to_idx) and (
                set(self.CLASSES) == set(self.folder_to_idx)):
            numbers = {label: self.CLASSES.index(name) for name, label in self.folder_to_idx.items()}
            samples = [(path, numbers[label]) for path, label in samples]
        elif self.with_label:
            note_order_of_numbers(list(self.folder_to_idx), self.img_prefix)
        return samples


@DATASETS.register_module()
class ImageNet(_Folders, _ImageNet):
    """ImageNet-1K in the layouts of ``mmpretrain.ImageNet``, with named samples."""
