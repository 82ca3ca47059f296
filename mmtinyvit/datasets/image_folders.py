"""Data sets read straight from class folders, whose samples have names and never stand in for each other."""
import os
from collections.abc import Sequence
from pathlib import PurePath

from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets import ImageNet as _ImageNet

from ..errors import UserError
from ..registry import DATASETS
from .views import load_batch, load_sample

__all__ = ['ImageFolder', 'ImageNet', 'NamedSamples', 'require_folder']


def require_folder(path: str, source: str) -> None:
    """Raise :class:`UserError`, which ends in ``source``, if the local folder ``path`` is missing."""
    if '://' not in path and not os.path.isdir(path):
        advice = source or 'change data_root in the config.'
        raise UserError(f'The image folder {os.path.normpath(path)} does not exist: {advice}')


class NamedSamples:
    """Mixin that comes before a ``BaseDataset``.

    ``BaseDataset`` draws another sample when a pipeline returns None, so that a stored target would be applied to the
    wrong image. Here that is an error which names the sample. Every sample carries its identity:

    Added keys: ``sample_key``, the path below ``img_prefix`` with forward slashes.
    """

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
    """Missing and empty folders become one sentence.

    Args:
        source: How the data can be had; ends the message when the folder is missing.
        **kwargs: As for the mmpretrain dataset of the same layout.
    """

    def __init__(self, *, source: str = '', **kwargs) -> None:
        self.source = source
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Scan the folders.

        Raises:
            UserError: The folder is missing, holds no image, or has another number of classes than asked for.
        """
        require_folder(self.img_prefix, self.source)
        try:
            return super().load_data_list()
        except AssertionError as error:  # how mmpretrain reports a wrong number of class folders
            raise UserError(f'The image folder {self.img_prefix} cannot be used: {error}') from error
        except RuntimeError as error:
            raise UserError(f'The image folder {self.img_prefix} holds no image in a class folder: put files ending in '
                            f'{", ".join(sorted(self.extensions))} there.') from error


@DATASETS.register_module()
class ImageFolder(_Folders, CustomDataset):
    """Class per folder, class names from the folders: ``mmpretrain.CustomDataset`` with named samples."""


@DATASETS.register_module()
class ImageNet(_Folders, _ImageNet):
    """ImageNet-1K in the layouts of ``mmpretrain.ImageNet``, with named samples."""
