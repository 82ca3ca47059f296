"""LoadImage: a file, a member of an archive, or an array, as RGB pixels by one set of rules."""
import io
from collections.abc import Sequence

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS
from mmtinyvit.store.folders import is_url

from .images.members import read_files, read_member, read_members

__all__ = ['LoadImage', 'as_bgr']

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
