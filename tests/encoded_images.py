"""One small encoded image of every kind that people have, and files that only pretend to be images."""
import base64
import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageCms

__all__ = ['ALPHA', 'FAKES', 'KINDS', 'RGB', 'encoded', 'orientation', 'png', 'png_chunk', 'with_jpeg_size',
           'with_webp_canvas']

HEIGHT, WIDTH = 37, 45
_rows, _columns = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([_rows * 255 // HEIGHT, _columns * 255 // WIDTH, (_rows + _columns) * 255 // 82], 2).astype(np.uint8)
ALPHA = ((_columns * 7 + _rows * 3) % 256).astype(np.uint8)
_GREY_16 = (_rows * 1700 + _columns * 3 + 17).astype(np.uint16)

# The picture above at 24 x 20 pixels by `cjpeg -arithmetic` (libjpeg-turbo 2.1); Pillow and OpenCV only read this kind.
_ARITHMETIC = (
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgy'
    'PC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAUABgD'
    'ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ALuwOuAAiMXPO8SaK+5bDjtA6BrhO5y4Iadslg2XzhDDCe0sEcP0YBrnJi5orIEq'
    'OAnC2Gl2IXJh5EY7vSE7Hn6qb3QOBFCSXsog/9k=')


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(pixels: np.ndarray, size: tuple[int, int] | None = None, before: bytes = b'') -> bytes:
    """A PNG file of ``(H, W)`` or ``(H, W, C)`` pixels of 8 or 16 bits; its header may lie about (width, height)."""
    color = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    width, height = size or (pixels.shape[1], pixels.shape[0])
    header = struct.pack('>IIBBBBB', width, height, 8 * pixels.itemsize, color, 0, 0, 0)
    rows = b''.join(b'\0' + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder('>')))
    return (b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + before
            + png_chunk(b'IDAT', zlib.compress(rows)) + png_chunk(b'IEND', b''))


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG file whose header names another size."""
    at = data.index(b'\xff\xc0') + 5
    return data[:at] + struct.pack('>HH', height, width) + data[at + 4:]


def with_webp_canvas(data: bytes, width: int, height: int) -> bytes:
    """An extended WebP file whose header names another size of the canvas."""
    at = data.index(b'VP8X') + 12
    return data[:at] + (width - 1).to_bytes(3, 'little') + (height - 1).to_bytes(3, 'little') + data[at + 6:]


def _tiff(pixels: np.ndarray, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A TIFF file of ``(H, W)`` or ``(H, W, 3)`` values of 16 or 32 bits, which Pillow does not write."""
    height, width = pixels.shape[:2]
    samples, bits = pixels.size // (height * width), 8 * pixels.itemsize
    lists = 8 + 2 + 12 * 10 + 4  # header, directory; then the lists of three values, and the pixels
    start = lists + 12
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, lists if samples > 1 else bits),
               (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, start), (277, 3, 1, samples), (278, 4, 1, height),
               (279, 4, 1, pixels.nbytes), (339, 3, samples, lists + 6 if samples > 1 else sample_format)]
    directory = b''.join(struct.pack('<HHII', *entry) for entry in entries) + bytes(4)
    return (b'II*\0' + struct.pack('<IH', 8, 10) + directory
            + struct.pack('<6H', *[bits] * 3, *[sample_format] * 3) + pixels.tobytes())


def _cmyk() -> Image.Image:
    pixels = np.asarray(Image.fromarray(RGB).convert('CMYK')).copy()
    pixels[..., 3] = (_columns * 2) % 120
    return Image.frombytes('CMYK', (WIDTH, HEIGHT), pixels.tobytes())


def _without_adobe(data: bytes) -> bytes:
    at = data.index(b'\xff\xee')
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2:at + 4], 'big'):]


def _as_ycck(data: bytes) -> bytes:
    at = data.index(b'Adobe') + 11
    return data[:at] + b'\2' + data[at + 1:]


def orientation(number: int) -> Image.Exif:
    """EXIF data that say how the picture is to be turned: from 1, as it is, to 8."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


_rgb, _rgba = Image.fromarray(RGB), Image.fromarray(np.dstack([RGB, ALPHA]))
_grey, _bits = _rgb.convert('L'), _rgb.convert('1')
_palette = _rgb.convert('P', palette=Image.Palette.ADAPTIVE)
_frames = dict(save_all=True, append_images=[_rgb.rotate(180)], duration=100)
_dot = Image.new('RGB', (1, 1), (200, 10, 40))

_XMP = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')

KINDS: dict[str, Callable[[], bytes]] = {
    'JPEG': lambda: encoded(_rgb, 'JPEG'),
    'JPEG 4:4:4': lambda: encoded(_rgb, 'JPEG', subsampling=0),
    'JPEG 4:1:1': lambda: cv2.imencode('.jpg', RGB, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x411111])[1].tobytes(),
    'JPEG grey': lambda: encoded(_grey, 'JPEG'),
    'JPEG progressive': lambda: encoded(_rgb, 'JPEG', progressive=True),
    'JPEG arithmetic': lambda: base64.b64decode(_ARITHMETIC),
    'JPEG with restarts': lambda: encoded(_rgb, 'JPEG', restart_marker_rows=1),
    'JPEG in RGB': lambda: encoded(_rgb, 'JPEG', keep_rgb=True),
    'JPEG CMYK of Adobe': lambda: encoded(_cmyk(), 'JPEG', quality=95),
    'JPEG CMYK plain': lambda: _without_adobe(encoded(_cmyk(), 'JPEG', quality=95)),
    'JPEG YCCK': lambda: _as_ycck(encoded(_cmyk(), 'JPEG', quality=95)),
    'JPEG of two pictures (MPO)': lambda: encoded(_rgb, 'MPO', save_all=True, append_images=[_rgb.rotate(180)]),
    'JPEG of one pixel': lambda: encoded(_dot, 'JPEG'),
    'JPEG 20000 wide': lambda: encoded(_rgb.resize((20_000, 3)), 'JPEG'),
    'JPEG 20000 high': lambda: encoded(_rgb.resize((3, 20_000)), 'JPEG'),
    'PNG': lambda: encoded(_rgb, 'PNG'),
    'PNG grey': lambda: encoded(_grey, 'PNG'),
    'PNG 1 bit': lambda: encoded(_bits, 'PNG'),
    'PNG palette': lambda: encoded(_palette, 'PNG'),
    'PNG palette of 4 bits': lambda: encoded(_rgb.quantize(16), 'PNG', bits=4),
    'PNG palette, one transparent': lambda: encoded(_palette, 'PNG', transparency=3),
    'PNG palette, translucent': lambda: encoded(_palette, 'PNG', transparency=bytes(range(256))),
    'PNG one colour transparent': lambda: encoded(_rgb, 'PNG', transparency=(0, 0, 0)),
    'PNG alpha': lambda: encoded(_rgba, 'PNG'),
    'PNG grey and alpha': lambda: encoded(_rgba.convert('LA'), 'PNG'),
    'PNG 16 bits': lambda: png(RGB.astype(np.uint16) * 257 + 5),
    'PNG 16 bits alpha': lambda: png(np.dstack([RGB, ALPHA]).astype(np.uint16) * 257),
    'PNG 16 bits grey': lambda: png(_GREY_16),
    'PNG gamma': lambda: png(RGB, before=png_chunk(b'gAMA', struct.pack('>I', 100_000))),
    'PNG animated': lambda: encoded(_rgb, 'PNG', **_frames),
    'PNG of one pixel': lambda: encoded(_dot, 'PNG'),
    'PNG 20000 wide': lambda: encoded(_rgb.resize((20_000, 3)), 'PNG'),
    'PNG 20000 high': lambda: encoded(_rgb.resize((3, 20_000)), 'PNG'),
    'WebP lossy': lambda: encoded(_rgb, 'WEBP'),
    'WebP lossless': lambda: encoded(_rgb, 'WEBP', lossless=True),
    'WebP lossy, alpha': lambda: encoded(_rgba, 'WEBP'),
    'WebP lossless, alpha': lambda: encoded(_rgba, 'WEBP', lossless=True, exact=True),
    'WebP animated': lambda: encoded(_rgb, 'WEBP', lossless=True, **_frames),
    'WebP of one pixel': lambda: encoded(_dot, 'WEBP', lossless=True),
    'TIFF': lambda: encoded(_rgb, 'TIFF'),
    'TIFF LZW': lambda: encoded(_rgb, 'TIFF', compression='tiff_lzw'),
    'TIFF Deflate': lambda: encoded(_rgb, 'TIFF', compression='tiff_deflate'),
    'TIFF JPEG': lambda: encoded(_rgb, 'TIFF', compression='jpeg'),
    'TIFF grey': lambda: encoded(_grey, 'TIFF'),
    'TIFF 1 bit': lambda: encoded(_bits, 'TIFF'),
    'TIFF palette': lambda: encoded(_palette, 'TIFF'),
    'TIFF of two pages': lambda: encoded(_rgb, 'TIFF', save_all=True, append_images=[_rgb.rotate(180)]),
    'TIFF alpha': lambda: encoded(_rgba, 'TIFF'),
    'TIFF grey and alpha': lambda: encoded(_rgba.convert('LA'), 'TIFF'),
    'TIFF CMYK': lambda: encoded(_cmyk(), 'TIFF'),
    'TIFF CIELAB': lambda: encoded(ImageCms.profileToProfile(
        _rgb, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB'), 'TIFF'),
    'TIFF 16 bits': lambda: _tiff(RGB.astype(np.uint16) * 257, photometric=2),
    'TIFF 16 bits grey': lambda: _tiff(_GREY_16),
    'TIFF 32 bits': lambda: _tiff(_GREY_16.astype(np.uint32) * 60_000),
    'TIFF floating point': lambda: _tiff(RGB[..., 0].astype(np.float32) / 255, sample_format=3),
    'BMP': lambda: encoded(_rgb, 'BMP'),
    'BMP palette': lambda: encoded(_palette, 'BMP'),
    'BMP 1 bit': lambda: encoded(_bits, 'BMP'),
    'PPM': lambda: encoded(_rgb, 'PPM'),
    'PPM 16 bits': lambda: b'P6\n45 37\n65535\n' + (RGB.astype('>u2') * 257).astype('>u2').tobytes(),
    'PGM': lambda: encoded(_grey, 'PPM'),
    'PGM 16 bits': lambda: b'P5\n45 37\n65535\n' + _GREY_16.astype('>u2').tobytes(),
    'GIF under another name': lambda: encoded(_rgb, 'GIF'),
    'AVIF under another name': lambda: encoded(_rgb, 'AVIF'),
    'JPEG 2000 under another name': lambda: encoded(_rgb, 'JPEG2000'),
    **{f'JPEG EXIF {n}': lambda n=n: encoded(_rgb, 'JPEG', exif=orientation(n)) for n in range(1, 9)},
    'JPEG turned by XMP alone': lambda: encoded(_rgb, 'JPEG', xmp=_XMP),
    **{f'PNG EXIF {n}': lambda n=n: encoded(_rgb, 'PNG', exif=orientation(n)) for n in range(1, 9)},
    **{f'WebP EXIF {n}': lambda n=n: encoded(_rgb, 'WEBP', lossless=True, exif=orientation(n)) for n in range(1, 9)},
    **{f'TIFF EXIF {n}': lambda n=n: encoded(_rgb, 'TIFF', tiffinfo={0x0112: n}) for n in range(1, 9)},
}

FAKES = {
    'PDF': b'%PDF-1.7\n' + bytes(range(256)),
    'PostScript': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n',
    'SVG': b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    'HTML': b'\n<!DOCTYPE html><html><title>404 Not Found</title></html>',
    'XML': b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    'HEIC': b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(50),
    'MP4': b'\0\0\0\x18ftypisom\0\0\0\0isomiso2' + bytes(50),
    'PSD': b'8BPS\0\1' + bytes(100),
    'zip': b'PK\3\4' + bytes(100),
    'gzip': b'\x1f\x8b\x08' + bytes(100),
    'ICO': encoded(_rgb, 'ICO'),
}
