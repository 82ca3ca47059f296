"""Small and middle-sized data sets read straight from class folders."""
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets import ImageNet as _ImageNet

from ..errors import UserError
from ..registry import DATASETS
from .named_samples import NamedSamples, require_folder

__all__ = ['ImageFolder', 'ImageNet']


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
