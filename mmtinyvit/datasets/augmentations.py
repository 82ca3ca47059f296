"""Faster forms of mmpretrain's slowest augmentations."""
import warnings
from typing import Any

import cv2
import mmpretrain.datasets as mmpretrain
import numpy as np
import torch
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from torch.nn.functional import interpolate

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS

__all__ = ['AutoContrast', 'Equalize', 'RandAugment', 'RandomResizedCrop', 'Solarize', 'SolarizeAdd']

# mmcv says so at every worker's first ColorJitter with Pillow, though mmpretrain passes nothing but alpha.
warnings.filterwarnings('ignore', "Only use 'alpha' for pillow backend", UserWarning)

_VALUES = np.arange(256, dtype=np.uint8)
_VALUES.flags.writeable = False


@TRANSFORMS.register_module()
class RandomResizedCrop(mmpretrain.RandomResizedCrop):
    """The same crops as ``mmpretrain.RandomResizedCrop``, resized several times as fast as by Pillow.

    The filters are Pillow's, with antialiasing, computed in whole numbers: the pixels are the same on every processor,
    as near to the exact result as Pillow's, and seldom more than one level from them.

    Required Keys:

    - img (np.ndarray): ``(H, W, C)`` uint8.

    Modified Keys:

    - img (np.ndarray): ``(*scale, C)`` uint8.
    - img_shape (tuple[int, int])

    Args:
        *args: Of ``mmpretrain.RandomResizedCrop``.
        interpolation: ``'bicubic'`` or ``'bilinear'``.
        **kwargs: Of ``mmpretrain.RandomResizedCrop``: ``scale``, ``crop_ratio_range``, ``aspect_ratio_range`` and
            ``max_attempts``.

    Source: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, for the crops.
    """

    def __init__(self, *args, interpolation: str = 'bicubic', **kwargs) -> None:
        if interpolation not in ('bicubic', 'bilinear'):
            raise UserError(f'interpolation={interpolation!r} of mmtinyvit.RandomResizedCrop must be bicubic or '
                            'bilinear: mmpretrain.RandomResizedCrop has others.')
        super().__init__(*args, **kwargs, interpolation=interpolation, backend='torch')

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


@TRANSFORMS.register_module()
class RandAugment(mmpretrain.RandAugment):
    """``mmpretrain.RandAugment``, bit for bit, in less time.

    Args:
        policies: Name of one of mmpretrain's lists of operations, such as ``'timm_increasing'``, or a list of configs.
            Operations that are faster here (the other classes of this module) take the place of mmpretrain's.
        **kwargs: As for ``mmpretrain.RandAugment``.
    """

    def __init__(self, policies: str | list[dict], **kwargs: Any) -> None:
        if isinstance(policies, str):
            policies = RANDAUG_POLICIES.get(policies, policies)  # an unknown name is mmpretrain's to refuse
        if not isinstance(policies, str):
            policies = [dict(policy, type=_FASTER.get(policy['type'], policy['type'])) for policy in policies]
        super().__init__(policies, **kwargs)


class _PerChannel:
    """An operation whose table depends on how often each value occurs in a channel. Images are (H, W, C) uint8."""

    def transform(self, results: dict) -> dict:
        if self.random_disable():
            return results
        image = results['img']
        counts = [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel() for c in range(image.shape[2])]
        tables = [self.table(count.astype(np.int64)) for count in counts]
        results['img'] = cv2.LUT(image, np.stack(tables, axis=1)[None])  # (1, 256, C)
        return results


class _Pointwise:
    """An operation that treats all values of an image alike: it is asked about each of the 256 once."""

    def transform(self, results: dict) -> dict:
        table = super().transform({'img': _VALUES})['img']
        if table is not _VALUES:
            results['img'] = cv2.LUT(results['img'], table)
        return results


@TRANSFORMS.register_module()
class AutoContrast(_PerChannel, mmpretrain.AutoContrast):
    """``mmpretrain.AutoContrast``: stretches each channel to the range 0 to 255."""

    @staticmethod
    def table(counts: np.ndarray) -> np.ndarray:
        """``(256,)`` uint8: what becomes of each value where it occurs ``counts`` times."""
        low, high = np.flatnonzero(counts)[[0, -1]]
        if low == high:
            return _VALUES
        scale = 255. / (high - low)
        return np.clip(_VALUES * scale - low * scale, 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class Equalize(_PerChannel, mmpretrain.Equalize):
    """``mmpretrain.Equalize``: makes all values of a channel about equally frequent."""

    @staticmethod
    def table(counts: np.ndarray) -> np.ndarray:
        """``(256,)`` uint8: what becomes of each value where it occurs ``counts`` times."""
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step == 0:
            return _VALUES
        below = np.cumsum(counts) - counts
        return np.minimum((below + step // 2) // step, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class Solarize(_Pointwise, mmpretrain.Solarize):
    """``mmpretrain.Solarize``: inverts what is above a threshold."""


@TRANSFORMS.register_module()
class SolarizeAdd(_Pointwise, mmpretrain.SolarizeAdd):
    """``mmpretrain.SolarizeAdd``: adds to what is below a threshold."""


_FASTER = {operation.__name__: f'mmtinyvit.{operation.__name__}'
           for operation in (AutoContrast, Equalize, Solarize, SolarizeAdd)}
