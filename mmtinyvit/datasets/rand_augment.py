"""RandAugment: mmpretrain's, with its slowest operations on values looked up in tables."""
from typing import Any

import cv2
import mmpretrain.datasets as mmpretrain
import numpy as np
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES

from mmtinyvit.registry import TRANSFORMS

__all__ = ['AutoContrast', 'Equalize', 'RandAugment', 'Solarize', 'SolarizeAdd']

_VALUES = np.arange(256, dtype=np.uint8)
_VALUES.flags.writeable = False


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
