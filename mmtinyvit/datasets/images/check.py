"""Whether the bytes of a file are an image that training can use, found out before the training.

Decoders are lenient: OpenCV allocates whatever size a header names, and some of its versions fill with grey what a cut
JPEG file does not hold, without an error. So Pillow, which stops at both, decodes the bytes first, and the decoder that
trains must then give the same picture. No global setting of either library is changed. Threads may check images, since
decoding releases the GIL.
"""
import io
import os
from functools import cache

import cv2
import mmcv
import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ...errors import UserError

__all__ = ['MAX_PIXELS', 'check_image', 'decoder_name']

MAX_PIXELS = 89_478_485  # Pillow's own limit for a warning: a quarter of a gigabyte as RGB

# What decoders of photos read. Others are not opened at all: Pillow would run Ghostscript for PostScript.
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'PPM', 'TIFF', 'GIF', 'JPEG2000', 'AVIF')
_JPEG = ('JPEG', 'MPO')  # MPO: several pictures in a JPEG file, the first of which counts
_SIGNATURES = {  # how files begin; for the reason alone
    b'\xff\xd8\xff': 'JPEG', b'\x89PNG\r\n\x1a\n': 'PNG', b'GIF8': 'GIF', b'II*\0': 'TIFF', b'MM\0*': 'TIFF',
    b'BM': 'BMP', b'%PDF': 'PDF', b'%!PS': 'PostScript', b'8BPS': 'PSD', b'PK\3\4': 'zip', b'\x1f\x8b': 'gzip',
    b'\0\0\1\0': 'ICO'
}
_BRANDS = {b'avif': 'AVIF', b'avis': 'AVIF', b'heic': 'HEIC', b'heix': 'HEIC', b'mif1': 'HEIC'}
_SAMPLE_SIDE = 64  # the most rows and columns in which two decoders are compared
_SAME_WITHIN = 8  # mean difference in levels; two JPEG decoders differ by less than 1
_MOST_SCANS = 500  # a progressive file has about ten; each goes through all pixels, so thousands would take hours
_ZERO_FILL = 512  # so many zero bytes are no image data of a compressed format


def decoder_name(backend: str) -> str:
    """Name and version of the library that decodes for ``imdecode_backend=backend``, such as ``'cv2 4.12.0'``.

    Raises:
        UserError: Another backend than ``'cv2'`` and ``'pillow'``.
    """
    versions = {'cv2': cv2.__version__, 'pillow': PIL.__version__}
    if backend not in versions:
        raise UserError(f'Images cannot be checked for the decoder {backend!r}: use cv2 or pillow.')
    return f'{backend} {versions[backend]}'


def check_image(data: bytes, name: str, backend: str = 'cv2', max_pixels: int = MAX_PIXELS) -> str | None:
    """Decode an image as training would, and as Pillow does.

    The size is read from the header before anything is decoded. Memory stays below 16 bytes per pixel, for most images
    below 8, and so is bounded by ``max_pixels``; hostile TIFF directories take up to 20 times the file.

    Args:
        data: The content of the file.
        name: Its name. It changes the wording of a reason, never whether there is one.
        backend: ``imdecode_backend`` of ``mmtinyvit.LoadImage``: ``'cv2'`` or ``'pillow'``.
        max_pixels: Larger images are refused.

    Returns:
        None if ``mmtinyvit.LoadImage`` gives the whole image, with the size and the colours that Pillow gives as RGB;
        grey of 16 bits is to be divided by 256. Else the reason in a few words on one line: ``zero bytes``,
        ``truncated``, ``damaged (...)``, ``not an image``, ``another format under a wrong name (...)``,
        ``too large (...)``, or what is different about the decoder's image.

    Raises:
        UserError: ``backend`` is neither, or Pillow was told in this process to accept truncated files.
    """
    decoder_name(backend)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UserError('Images cannot be checked while PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides '
                        'truncated files: remove it from your code.')
    if not data:
        return 'zero bytes'
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            kind = image.format
            if image.width * image.height > max_pixels:
                return f'too large ({image.width} x {image.height} pixels)'
            if kind in _JPEG and data.count(b'\xff\xda') > _MOST_SCANS:
                return f'too large (more than {_MOST_SCANS} scans)'
            image.load()
            if image.mode == 'F' or (image.mode, kind) == ('I', 'TIFF'):
                return 'values of 32 bits, which have no fixed range'
            shape, expected = _sampled(image)
    except UnidentifiedImageError:
        return _unidentified(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where these are errors
        return 'too large (more pixels than Pillow opens)'
    except MemoryError:
        return 'too large (out of memory)'
    except Exception as error:  # each of Pillow's formats has its own exceptions
        return _damaged(data, error)
    if _is_filled_up(data, kind):
        return 'truncated (filled up with zero bytes)'
    del image
    return _compare(data, name, backend, kind, shape, expected)


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those that the installed Pillow has; some are optional."""
    Image.init()
    return tuple(kind for kind in _FORMATS if kind in Image.OPEN)


def _sampled(image: Image.Image) -> tuple[tuple[int, int], np.ndarray]:
    """Height and width after EXIF's rotation, and some of the pixels, spread evenly: (h, w, 3), BGR."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # photos with damaged EXIF are frequent, and decoders take them as they lie
        pass
    sample = image.resize((min(image.width, _SAMPLE_SIDE), min(image.height, _SAMPLE_SIDE)), Image.Resampling.NEAREST)
    if sample.mode.startswith('I'):  # Pillow cuts off 16 bits at 255; OpenCV divides them, as is right
        pixels = (np.asarray(sample, np.int32) >> 8).astype(np.uint8)[..., None].repeat(3, axis=2)
    else:
        pixels = np.asarray(sample.convert('RGB'))[..., ::-1]
    return (image.height, image.width), np.ascontiguousarray(pixels)


def _compare(data: bytes, name: str, backend: str, kind: str, shape: tuple[int, int],
             expected: np.ndarray) -> str | None:
    """What is wrong with the image that training would see."""
    try:
        found = mmcv.imfrombytes(data, flag='color', backend=backend)
    except MemoryError:
        return 'too large (out of memory)'
    except Exception:  # cv2.error, or whatever Pillow raises for this format
        found = None
    if found is None:
        if _is_cut(data):
            return 'truncated'
        if Image.registered_extensions().get(os.path.splitext(name)[1].lower()) not in (kind, None):
            return f'another format under a wrong name ({kind} that {backend} does not decode)'
        return f'{backend} does not decode this {kind}'
    if found.shape != (*shape, 3):
        return f'{backend} gives {found.shape[1]} x {found.shape[0]} pixels instead of {shape[1]} x {shape[0]}'
    found = cv2.resize(found, expected.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)  # picks as Pillow's NEAREST
    difference = cv2.norm(found, expected, cv2.NORM_L1) / expected.size
    if difference > _SAME_WITHIN:
        return f'{backend} gives other colours or another orientation than Pillow'
    return None


def _unidentified(data: bytes) -> str:
    """The reason for bytes that none of the formats accepts."""
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    head = data[:1024].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if data[4:8] == b'ftyp':
        kind = _BRANDS.get(data[8:12], 'MP4')
    elif head.startswith(b'<'):
        kind = 'SVG' if b'<svg' in head else 'HTML' if b'<html' in head or b'<!doctype html' in head else 'XML'
    if kind is None:
        return 'not an image'
    if kind not in _FORMATS:
        return f'another format under a wrong name ({kind})'
    return 'truncated' if _is_cut(data) else f'damaged (Pillow cannot read the {kind} header)'


def _damaged(data: bytes, error: Exception) -> str:
    words = ' '.join(str(error).split())
    if _is_cut(data) or any(word in words.lower() for word in ('truncated', 'eof')):
        return 'truncated'
    return f'damaged ({words[:80]})'


def _is_cut(data: bytes) -> bool:
    """Whether bytes are missing at the end, by what each format says of itself."""
    if data.startswith(b'\xff\xd8'):
        at = 2
        while data[at:at + 1] == b'\xff' and data[at + 1:at + 2] != b'\xda':  # up to the first scan
            at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
        return at + 1 >= len(data)
    if data.startswith(b'\x89PNG'):
        return b'IEND' not in data[-1024:]
    if data.startswith(b'RIFF'):
        return int.from_bytes(data[4:8], 'little') + 8 > len(data)
    if data.startswith((b'II*\0', b'MM\0*')):  # the directory is often at the end
        return int.from_bytes(data[4:8], 'little' if data.startswith(b'II') else 'big') >= len(data)
    return False


def _is_filled_up(data: bytes, kind: str) -> bool:
    """Whether zero bytes stand for the rest of the image: a download into reserved space that stopped.

    Zero bytes are codes as well, so decoders read them as grey and report nothing.
    """
    if any(data[-_ZERO_FILL:]):
        return False
    if kind == 'WEBP':
        return int.from_bytes(data[4:8], 'little') + 8 >= len(data)  # else they follow the image
    return kind in _JPEG and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda')  # the last scan has no end
