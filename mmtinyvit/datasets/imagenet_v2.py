"""ImageNet-V2: ten new test images for each class of ImageNet-1K, in folders that are named by numbers."""
from ..errors import UserError
from ..registry import DATASETS
from .image_folders import ImageNet

__all__ = ['ImageNetV2']

SPLITS = ('matched-frequency', 'threshold0.7', 'top-images')


@DATASETS.register_module()
class ImageNetV2(ImageNet):
    """ImageNet-V2 (https://arxiv.org/abs/1902.10811) as it is unpacked, with named samples.

    The folders are called 0 to 999, and the name is the label. Sorted as text, 10 comes before 2, so that an ordinary
    dataset of class folders gives 988 of the 1,000 classes a wrong label. The older archives with a synset per folder
    are read too.

    Args:
        data_root: Folder that holds ``imagenetv2-<split>-format-val/``.
        split: Which of the three sets: ``'matched-frequency'``, the usual one, ``'threshold0.7'`` or
            ``'top-images'``.
        **kwargs: As for :class:`.ImageNet`: ``pipeline``, ``source`` and others.

    Raises:
        UserError: There is no such split, or the folders are not the 1,000 classes.
    """

    def __init__(self, data_root: str = 'data/imagenetv2/', split: str = SPLITS[0], **kwargs) -> None:
        if split not in SPLITS:
            raise UserError(f'ImageNet-V2 has no split {split!r}: set split of the dataset to one of '
                            f'{", ".join(SPLITS)}.')
        super().__init__(data_root=data_root, data_prefix=f'imagenetv2-{split}-format-val', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Scan the folders, and take the labels from their names."""
        samples = super().load_data_list()
        if self.ann_file:
            return samples
        folders = sorted(self.folder_to_idx, key=self.folder_to_idx.get)  # as mmpretrain numbered them
        if not any(name.isdecimal() for name in folders):
            return samples  # synsets, whose order is that of the labels
        if wrong := sorted(set(folders) - {str(label) for label in range(len(self.CLASSES))}):
            raise UserError(f'The image folder {self.img_prefix} has a class folder {wrong[0]}: those of ImageNet-V2 '
                            'are called 0 to 999; unpack it again.')
        return [sample | dict(gt_label=int(folders[sample['gt_label']])) for sample in samples]
