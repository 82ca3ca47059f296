"""Transforms of single images: loading, labels, and faster forms of mmpretrain's slowest augmentations."""
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import mmcv
import mmengine.fileio as fileio
import mmpretrain.datasets as mmpretrain
import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from PIL import Image
from torch.nn.functional import interpolate

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import ClassList, list_classes, require_classes
from mmtinyvit.registry import TRANSFORMS
from mmtinyvit.store.folders import is_url

from .images.members import read_files, read_member, read_members

__all__ = ['AutoContrast', 'Equalize', 'LoadImage', 'MapLabel', 'RandAugment', 'RandomResizedCrop', 'Solarize',
           'SolarizeAdd', 'as_bgr']

# mmcv says so at every worker's first ColorJitter with Pillow, though mmpretrain passes nothing but alpha.
warnings.filterwarnings('ignore', "Only use 'alpha' for pillow backend", UserWarning)

_VALUES = np.arange(256, dtype=np.uint8)
_VALUES.flags.writeable = False
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image as ``(H, W, 3)`` uint8 in BGR order, from a file, a URL, or a member of an archive.

    Greyscale, palette and alpha images are converted; ``docs/en/data.md`` has a table of what each kind of file
    becomes. What cannot be decoded is an error that names the file; nothing is skipped, because a skipped sample would
    get another sample's teacher.

    With ``min_side``, a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size: the smallest whose shorter side still has
    that many pixels. The decoder then computes fewer pixels (DCT scaling), which takes less time. The part depends on
    the file alone, so views can be replayed. ``min_side`` belongs to the views: a store that was saved without it is
    refused to a training with it, and the other way round.

    URLs are read through fsspec, those of a batch at once, see :mod:`.images.remote_bytes`.

    Required keys: ``img_path``; ``archive_member`` (:class:`ArchiveMember`) for an image in an archive.
    Added keys: ``img``, ``img_shape`` and ``ori_shape``, both ``(H, W)``. Results that have an ``img`` and no path, as
    those of mmpretrain's inferencers, become the same form, see :func:`as_bgr`.
    Removed keys: ``image_bytes`` (bytes), the encoded image, which :meth:`prepare_batch` adds where it is remote.

    Args:
        imdecode_backend: Decoder, as for ``mmcv.imfrombytes``.
        min_side: Pixels that the shorter side keeps at least, with the decoder cv2; None decodes all at full size.
        backend_args: File back end, as for ``mmengine.fileio.get``, which then reads the files, URLs as well.
    """

    def __init__(self, imdecode_backend: str = 'cv2', *, min_side: int | None = None,
                 backend_args: dict | None = None) -> None:
        if min_side is not None and (imdecode_backend != 'cv2' or min_side < 1):
            raise UserError(f'min_side={min_side} of mmtinyvit.LoadImage needs a positive number of pixels and '
                            f"imdecode_backend='cv2', not {imdecode_backend!r}: correct it, or leave min_side out.")
        super().__init__(imdecode_backend=imdecode_backend, backend_args=backend_args)
        self.min_side = min_side

    def prepare_batch(self, batch: Sequence[dict]) -> None:
        """Read the remote images of a batch, all at once, before the first is decoded.

        Raises:
            UserError: One of them cannot be read.
        """
        members = [results for results in batch if _is_remote_member(results)]
        files = [results for results in batch if self._is_remote_file(results)]
        contents = read_members([results['archive_member'] for results in members],
                                [results['img_path'] for results in members])
        contents += read_files([results['img_path'] for results in files])
        for results, content in zip(members + files, contents, strict=True):
            results['image_bytes'] = content

    def transform(self, results: dict) -> dict:
        """Read and decode.

        Raises:
            UserError: The file is missing or cannot be decoded; or an ``img`` is no image.
        """
        if 'img' in results and 'img_path' not in results:
            results['img'] = as_bgr(results['img'])
            return results
        path = results['img_path']
        data = results.pop('image_bytes', None)
        if data is None:
            data = self._read(results)
        image = cause = None
        try:
            image = mmcv.imfrombytes(data, flag=self._flag(data), backend=self.imdecode_backend)
        except Exception as error:  # each decoder has its own exceptions for bytes that are no image
            cause = error
        if image is None:
            raise UserError(f'The image {path} cannot be decoded ({len(data)} bytes that {self.imdecode_backend} does '
                            'not take for an image): replace the file, or leave all such files out with '
                            '"mmtinyvit index --check", before a store is saved.') from cause
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _flag(self, data: bytes) -> str | int:
        """How ``mmcv.imfrombytes`` is to decode an image: in full, or at which part of its size."""
        if self.min_side is None or not data.startswith(b'\xff\xd8'):
            return 'color'
        with Image.open(io.BytesIO(data), formats=('JPEG', )) as image:  # reads the header only
            shorter = min(image.size)
        return next((_REDUCED[part] for part in (8, 4, 2) if -(-shorter // part) >= self.min_side), 'color')

    def _read(self, results: dict) -> bytes:
        path, member = results['img_path'], results.get('archive_member')
        if member is not None:
            return read_member(member, path)
        if self._is_remote_file(results):
            return read_files([path])[0]
        try:
            return fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UserError(f'The image {path} cannot be read ({error.strerror or error}): bring it back, or list the '
                            'images again.') from error

    def _is_remote_file(self, results: dict) -> bool:
        return (results.get('archive_member') is None and self.backend_args is None
                and is_url(results.get('img_path') or ''))


def as_bgr(image: np.ndarray) -> np.ndarray:
    """An image that somebody else has decoded, as ``(H, W, 3)`` uint8, by the rules for files.

    Args:
        image: ``(H, W)`` or ``(H, W, 1)``, grey; ``(H, W, 3)``, BGR; ``(H, W, 4)``, whose alpha is left out. Type
            uint8, or uint16, of which the upper eight bits count.

    Raises:
        UserError: It has another shape or type, such as float, whose range nobody knows.
    """
    shape = image.shape if isinstance(image, np.ndarray) else type(image).__name__
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        kind = f' and type {image.dtype}' if isinstance(image, np.ndarray) else ''
        raise UserError(f'An image of shape {shape}{kind} is none of pixels from 0 to 255: give a NumPy array of type '
                        "uint8, of floats from 0 to 1 `(255 * image).round().astype('uint8')`.")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise UserError(f'An array of shape {shape} is no image: give (H, W), or (H, W, C) with C = 1, 3 (BGR) or 4.')
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.shape[2] == 1:
        return image.repeat(3, axis=2)
    return np.ascontiguousarray(image[..., :3]) if image.shape[2] == 4 else image


def _is_remote_member(results: dict) -> bool:
    return results.get('archive_member') is not None and is_url(results['archive_member'].archive)


@TRANSFORMS.register_module()
class MapLabel(BaseTransform):
    """Replace each label by the number that the class has among the teacher's.

    Required Keys:

    - gt_label (int): From 0 to ``len(index) - 1``.

    Modified Keys:

    - gt_label (int): ``index[gt_label]``.

    Args:
        index: The teacher's class for each class of the dataset: a list of numbers; or a dict of names, such as
            ``dict(lab='n02099712')``, for classes that the teacher calls otherwise. The others are found by their own
            names, see :func:`~mmtinyvit.evaluation.class_map.find_classes`.
        target: The teacher's classes in order, which names need: a label layout such as ``'in1k'``, a file, or a list.

    Attributes:
        classes: Names of the teacher's classes, or None.

    Raises:
        UserError: A label or a class is not among them, or there is none.
    """

    def __init__(self, index: Sequence[int] | Mapping[str, str] | None = None,
                 target: ClassList | None = None) -> None:
        self.classes = None if target is None else list_classes(target)
        named = index is None or isinstance(index, Mapping)
        self.names = {str(name): str(its) for name, its in (index or {}).items()} if named else None
        self.index: list[int] | None = list(index) if self.names is None else None
        if self.names is not None and self.classes is None:
            raise UserError("MapLabel finds classes by their names among the teacher's: set target, for example to "
                            "'in1k', or give their numbers as index.")

    def name_classes(self, classes: Sequence[str] | None) -> None:
        """Tell what the classes of the dataset are called. Raises :class:`UserError` if one is not found."""
        if self.names is None or not classes:
            return
        wanted = [self.names.get(name, name) for name in classes]
        self.index = require_classes(
            self.classes, wanted, 'MapLabel has a target of {ours} for images of {theirs}',
            "add what is missing to its index, as in dict(lab='n02099712').", several=bool(self.names)).tolist()

    def transform(self, results: dict) -> dict:
        label = results.get('gt_label')
        if label is None:
            raise UserError(f'MapLabel has nothing to map, since {results.get("img_path", "a sample")} has no label: '
                            'take it out of the pipeline, or list the images with labels.')
        if self.index is None:
            raise UserError('MapLabel was not told what the classes of the images are called: use a dataset of this '
                            'library, such as mmtinyvit.ImageFolder, or give numbers as index.')
        if not 0 <= label < len(self.index):
            raise UserError(f'MapLabel has {len(self.index)} classes, and {results.get("img_path", "a sample")} has '
                            f'the label {label}: list the teacher\'s class for every class of the dataset.')
        results['gt_label'] = self.index[label]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(index={self.index or self.names})'


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
