"""Loading an image: the same pixels as ``mmcv.LoadImageFromFile``, and never another image."""
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile

from ..errors import UserError
from ..registry import TRANSFORMS
from .zip_members import read_member

__all__ = ['LoadImage']


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image as ``(H, W, 3)`` uint8 in BGR order, from a file, a URL of a file back end, or a zip member.

    Greyscale, palette and alpha images are converted. What cannot be decoded is an error that names the file; nothing
    is skipped, because a skipped sample would get another sample's teacher.

    Required keys: ``img_path``; ``zip_member`` (:class:`ZipMember`) for an image in a zip file.
    Added keys: ``img``, ``img_shape`` and ``ori_shape``, both ``(H, W)``. Results that have an ``img`` and no path, as
    those of mmpretrain's inferencers, are left as they are.

    Args:
        imdecode_backend: Decoder, as for ``mmcv.imfrombytes``.
        backend_args: File back end, as for ``mmengine.fileio.get``.
    """

    def __init__(self, imdecode_backend: str = 'cv2', *, backend_args: dict | None = None) -> None:
        super().__init__(imdecode_backend=imdecode_backend, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Read and decode.

        Raises:
            UserError: The file is missing or cannot be decoded.
        """
        if 'img' in results and 'img_path' not in results:
            return results
        path = results['img_path']
        member = results.get('zip_member')
        data = self._read_file(path) if member is None else read_member(member, path)
        results['img'] = image = self._decode(data, path)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read_file(self, path: str) -> bytes:
        try:
            return fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UserError(f'The image {path} cannot be read ({error.strerror or error}): bring it back, or list the '
                            'images again.') from error

    def _decode(self, data: bytes, path: str) -> np.ndarray:
        try:
            image = mmcv.imfrombytes(data, flag='color', backend=self.imdecode_backend)
        except Exception as error:  # each decoder has its own exceptions for bytes that are no image
            image, cause = None, error
        else:
            cause = None
        if image is None:
            raise UserError(f'The image {path} cannot be decoded ({len(data)} bytes that {self.imdecode_backend} does '
                            'not take for an image): replace the file.') from cause
        return image
