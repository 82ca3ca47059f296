"""RandomResizedCrop: mmpretrain's crops, resized by PyTorch."""
import mmpretrain.datasets
import numpy as np
import torch
from torch.nn.functional import interpolate

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS

__all__ = ['RandomResizedCrop']


@TRANSFORMS.register_module()
class RandomResizedCrop(mmpretrain.datasets.RandomResizedCrop):
    """The same crops as ``mmpretrain.RandomResizedCrop``, resized several times as fast as by Pillow.

    The filters are Pillow's, with antialiasing, computed in whole numbers: the pixels are the same on every processor,
    as near to the exact result as Pillow's, and seldom more than one level from them.

    Required Keys:

    - img (np.ndarray): ``(H, W, C)`` uint8.

    Modified Keys:

    - img (np.ndarray): ``(*scale, C)`` uint8.
    - img_shape (tuple[int, int])

    Args:
        scale: Side, or height and width, of the result.
        crop_ratio_range: Area of the crop, as shares of the image's.
        aspect_ratio_range: Width over height of the crop.
        max_attempts: How often a crop that fits is drawn before the middle of the image is taken.
        interpolation: ``'bicubic'`` or ``'bilinear'``.

    Source: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, for the crops.
    """

    def __init__(self,
                 scale: int | tuple[int, int],
                 crop_ratio_range: tuple[float, float] = (0.08, 1.0),
                 aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
                 max_attempts: int = 10,
                 interpolation: str = 'bicubic') -> None:
        if interpolation not in ('bicubic', 'bilinear'):
            raise UserError(f'interpolation={interpolation!r} of mmtinyvit.RandomResizedCrop must be bicubic or '
                            'bilinear: mmpretrain.RandomResizedCrop has others.')
        super().__init__(scale, crop_ratio_range, aspect_ratio_range, max_attempts, interpolation, backend='torch')

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3:
            raise UserError(f'mmtinyvit.RandomResizedCrop takes images of shape (H, W, C) and type uint8, not '
                            f'{image.shape} and {image.dtype}: put it before what changes them.')
        top, left, height, width = self.rand_crop_params(image)
        crop = np.ascontiguousarray(image[top:top + height, left:left + width])
        maps = torch.from_numpy(crop)[None].permute(0, 3, 1, 2)  # channels last, as the result will be
        maps = interpolate(maps, tuple(self.scale), mode=self.interpolation, antialias=True)  # (1, C, *scale)
        results['img'] = np.ascontiguousarray(maps.permute(0, 2, 3, 1)[0].numpy())
        results['img_shape'] = tuple(self.scale)
        return results
