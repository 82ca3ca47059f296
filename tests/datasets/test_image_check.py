"""``check_image`` gives one reason for what training could not use, in bounded memory, and lets the rest pass."""
import ctypes
import os
import re
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import mmcv
import numpy as np
import PIL
import pytest
from encoded_images import FAKES, KINDS, RGB, encoded, orientation, png, png_chunk, with_jpeg_size, with_webp_canvas
from PIL import Image, ImageFile

from mmtinyvit.datasets.images.check import MAX_PIXELS, check_image, decoder_name
from mmtinyvit.errors import UserError
from mmtinyvit.host_memory import MMAP_MAX

DATA = os.environ.get('MMTINYVIT_DATA')
NOISY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).resize((240, 180))
FILES = {
    'JPEG': encoded(NOISY, 'JPEG'),
    'progressive JPEG': encoded(NOISY, 'JPEG', progressive=True),
    'JPEG with restarts': encoded(NOISY, 'JPEG', restart_marker_rows=1),
    'CMYK JPEG': encoded(NOISY.convert('CMYK'), 'JPEG'),
    'JPEG with a thumbnail': encoded(NOISY, 'JPEG', comment=encoded(NOISY.resize((24, 18)), 'JPEG')),
    'PNG': encoded(NOISY, 'PNG'),
    'palette PNG': encoded(NOISY.convert('P'), 'PNG'),
    'WebP': encoded(NOISY, 'WEBP'),
    'lossless WebP': encoded(NOISY, 'WEBP', lossless=True),
    'BMP': encoded(NOISY, 'BMP'),
    'PPM': encoded(NOISY, 'PPM'),
    'TIFF': encoded(NOISY, 'TIFF'),
    'TIFF LZW': encoded(NOISY, 'TIFF', compression='tiff_lzw'),
    'TIFF JPEG': encoded(NOISY, 'TIFF', compression='jpeg'),
    'GIF': encoded(NOISY, 'GIF'),
}


def decoded(data: bytes, backend: str = 'cv2') -> np.ndarray | None:
    return mmcv.imfrombytes(data, flag='color', backend=backend)


@pytest.mark.parametrize('kind', FILES)
def test_whole_files_pass_whatever_their_name_is(kind):
    if kind != 'GIF' or decoded(FILES[kind]) is not None:  # not every OpenCV reads it
        assert check_image(FILES[kind], 'x.JPEG') is None
    assert check_image(FILES[kind], 'x', 'pillow') is None
    assert check_image(FILES[kind] + b'\0' * 4096, 'x.png', 'pillow') is None  # zero bytes after the end


@pytest.mark.parametrize('kind', FILES)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_file_cut_off_anywhere(kind, backend):
    data = FILES[kind]
    for end in [*range(20, len(data), len(data) // 20), len(data) - 40]:
        reason = check_image(data[:end], 'x.jpg', backend)
        assert reason and re.match('truncated|damaged' if kind.startswith(('TIFF', 'GIF')) else 'truncated$', reason)


@pytest.mark.parametrize('kind', [kind for kind in FILES if 'JPEG' in kind and 'TIFF' not in kind] + ['WebP'])
def test_a_file_that_zero_bytes_fill_up(kind):
    """A download into a file of the full size that stopped. Decoders take the zero bytes for image data."""
    data = FILES[kind]
    for end in range(len(data) // 2, len(data) - 600, len(data) // 20):
        filled = data[:end] + bytes(len(data) - end)
        assert check_image(filled, 'x.jpg').startswith(('truncated', 'damaged'))


def test_zero_bytes_that_both_decoders_take_for_half_an_image():
    data = FILES['JPEG'][:len(FILES['JPEG']) // 2] + bytes(100_000)
    for backend in ('cv2', 'pillow'):
        found = decoded(data, backend)
        whole = decoded(FILES['JPEG'], backend).astype(int)
        assert found.shape == whole.shape and np.abs(found - whole)[-40:].mean() > 20
        assert check_image(data, 'x.jpg', backend) == 'truncated (filled up with zero bytes)'


@pytest.mark.parametrize('data, reason', [
    (b'', 'zero bytes'),
    (bytes(5000), 'not an image'),
    (b'no image', 'not an image'),
    (b'\xff', 'not an image'),
    (b'\xff\xd8\xff', 'truncated'),
    (b'\x89PNG\r\n\x1a\n', 'truncated'),
    (b'RIFF\0\1\0\0WEBP', 'not an image|truncated'),
    (FILES['PNG'][:100] + bytes(50) + FILES['PNG'][150:], 'damaged .*'),
], ids=range(8))
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_no_image(data, reason, backend):
    assert re.fullmatch(reason, check_image(data, 'x.jpg', backend))


@pytest.mark.parametrize('kind', FAKES)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_another_format(kind, backend):
    """PostScript above all: Pillow would start Ghostscript."""
    assert check_image(FAKES[kind], 'x.jpg', backend) == f'another format under a wrong name ({kind})'


@pytest.mark.parametrize('kind', FILES)
def test_random_damage_has_one_reason_on_one_line_or_is_decoded_at_its_size(kind):
    dice = np.random.default_rng(len(kind))
    for trial in range(60):
        data = np.frombuffer(FILES[kind], np.uint8).copy()
        places = dice.integers(0, len(data) if trial % 2 else min(len(data), 600), dice.choice([1, 3, 20]))
        data[places] = dice.integers(0, 256, len(places))
        backend = ('cv2', 'pillow')[trial % 3 == 0]
        reason = check_image(data.tobytes(), 'x.jpg', backend, max_pixels=10**6)
        if reason is None:
            assert decoded(data.tobytes(), backend).ndim == 3
        else:
            assert reason and len(reason) < 120 and reason.isprintable()


def test_too_large():
    assert check_image(FILES['JPEG'], 'x.jpg', max_pixels=240 * 180) is None
    assert check_image(FILES['JPEG'], 'x.jpg', max_pixels=240 * 180 - 1) == 'too large (240 x 180 pixels)'


# ---------------------------------------------------------------- hostile files
def zeros(count: int) -> bytes:
    """``count`` zero bytes, compressed, without holding them all."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b''.join(packer.compress(block) for _ in range(count >> 20)) + packer.flush()


def in_png(name: bytes, data: bytes) -> bytes:
    return png(RGB, before=png_chunk(name, data))


def tiff(entries: list[tuple[int, int, int, int]], rest: bytes = b'') -> bytes:
    return (b'II*\0' + struct.pack('<IH', 8, len(entries)) + b''.join(struct.pack('<HHII', *entry) for entry in entries)
            + bytes(4) + rest)


GREY_TIFF = [(256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
HOSTILE = {
    'PNG of 50,000 x 50,000': lambda: (b'\x89PNG\r\n\x1a\n' + png_chunk(
        b'IHDR', struct.pack('>IIBBBBB', 50_000, 50_000, 1, 0, 0, 0, 0)) + png_chunk(b'IDAT', zeros(50_000 * 6251))
        + png_chunk(b'IEND', b'')),
    'PNG of 9,500 x 9,500': lambda: png(RGB, (9500, 9500)),
    'PNG with 200 MB of text': lambda: in_png(b'zTXt', b'a\0\0' + zeros(200 << 20)),
    'PNG with 200 MB of international text': lambda: in_png(b'iTXt', b'a\0\1\0\0\0' + zeros(200 << 20)),
    'PNG with a profile of 200 MB': lambda: in_png(b'iCCP', b'a\0\0' + zeros(200 << 20)),
    'JPEG of 65,500 x 65,500': lambda: with_jpeg_size(FILES['JPEG'], 65_500, 65_500),
    'JPEG of 9,500 x 9,500': lambda: with_jpeg_size(FILES['JPEG'], 9500, 9500),
    'WebP with a canvas of 16,383 x 16,383': lambda: with_webp_canvas(KINDS['WebP animated'](), 16_383, 16_383),
    'WebP with a canvas of 9,500 x 9,500': lambda: with_webp_canvas(KINDS['WebP animated'](), 9500, 9500),
    'WebP with a canvas of 2^24 x 2^24': lambda: with_webp_canvas(KINDS['WebP animated'](), 1 << 24, 1 << 24),
    'TIFF with 65,000 entries': lambda: tiff([(300 + i, 3, 1, 1) for i in range(65_000)]),
    'TIFF with 2^30 strips': lambda: tiff([*GREY_TIFF, (273, 4, 2**30 - 1, 8), (279, 4, 2**30 - 1, 8)]),
    'TIFF of 400,000 x 400,000': lambda: tiff([(256, 4, 1, 400_000), (257, 4, 1, 400_000), *GREY_TIFF[2:],
                                               (273, 4, 1, 8), (279, 4, 1, 8)]),
    'TIFF with 500,000 fractions': lambda: tiff([*GREY_TIFF, (282, 5, 500_000, 100)], bytes(4 << 20)),
    'BMP of 2^31 x 2^31': lambda: (lambda data: data[:18] + b'\xff\xff\xff\x7f' * 2 + data[26:])(FILES['BMP']),
    'PPM of 10^9 x 10^9': lambda: b'P6\n1000000000 1000000000\n255\n' + bytes(100),
    'PPM with a number of 5 MB': lambda: b'P6\n' + b'1' * 5_000_000,
    'GIF of 65,535 x 65,535': lambda: FILES['GIF'][:6] + b'\xff' * 4 + FILES['GIF'][10:],
}


def peak_mib(function) -> float:
    """By how many MiB the process grows at most while ``function`` runs, also after HostMemoryHook in another test."""
    mallopt = ctypes.CDLL(None).mallopt

    def memory(name: str) -> int:
        return int(re.search(rf'{name}:\s+(\d+)', Path('/proc/self/status').read_text())[1])

    mallopt(MMAP_MAX, 65_536)  # glibc's default: large memory is fresh, and counts where it is touched
    Path('/proc/self/clear_refs').write_text('5')  # the peak is the present size from here on
    before = memory('VmRSS')
    function()
    return (memory('VmHWM') - before) / 1024


needs_linux = pytest.mark.skipif(sys.platform != 'linux', reason='reads the peak of memory from /proc')


@needs_linux
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', HOSTILE)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_a_hostile_file_has_one_reason_and_takes_little_memory(kind, backend):
    data, found = HOSTILE[kind](), []
    peak = peak_mib(lambda: found.append(check_image(data, 'x.jpg', backend, max_pixels=50_000_000)))
    assert re.match('too large|damaged|truncated', found[0]) and found[0].isprintable()
    assert peak < 64 + 20 * len(data) / 2**20


def repeat_scan(data: bytes, times: int) -> bytes:
    return data[:-2] + data[data.rindex(b'\xff\xda'):-2] * times + data[-2:]


def test_a_jpeg_file_of_thousands_of_scans_is_not_decoded():
    assert check_image(repeat_scan(FILES['progressive JPEG'], 600), 'x.jpg') == 'too large (more than 500 scans)'
    assert check_image(repeat_scan(FILES['progressive JPEG'], 100), 'x.jpg') is None


BIG = Image.new('RGB', (2500, 2000), (200, 10, 40))
LARGE = {
    'PNG': lambda: encoded(BIG, 'PNG'),
    'PNG with alpha': lambda: encoded(BIG.convert('RGBA'), 'PNG'),
    'turned JPEG': lambda: encoded(BIG, 'JPEG', exif=orientation(6)),
    'progressive JPEG of many scans': lambda: repeat_scan(encoded(BIG, 'JPEG', progressive=True), 5),
    'animated WebP': lambda: with_webp_canvas(KINDS['WebP animated'](), 2500, 2000),
    'LZW TIFF': lambda: encoded(BIG, 'TIFF', compression='tiff_lzw'),
}


@needs_linux
@pytest.mark.parametrize('kind', LARGE)
def test_memory_is_at_most_16_bytes_a_pixel(kind):
    data, found = LARGE[kind](), []
    peak = peak_mib(lambda: found.append(check_image(data, 'x.jpg')))
    assert found == [None]
    assert peak < 16 * 2500 * 2000 / 2**20 + 8


# ---------------------------------------------------------------- what it leaves alone
def test_nothing_global_changes_and_threads_agree():
    def state() -> tuple:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, cv2.getNumThreads(), list(warnings.filters)

    before = state()
    half = {kind: data[:len(data) // 2] for kind, data in FILES.items()}
    files = [*FILES.values(), *half.values(), *FAKES.values()] * 4
    one_by_one = [check_image(data, 'x.jpg') for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: check_image(data, 'x.jpg'), files)) == one_by_one
    assert state() == before


def test_a_process_that_accepts_truncated_files_checks_none(monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    with pytest.raises(UserError, match='cannot be checked while PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set'):
        check_image(FILES['JPEG'], 'x.jpg')


@pytest.mark.parametrize('limit', [None, 10**10])
def test_the_limit_does_not_depend_on_that_of_pillow(monkeypatch, limit):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    data = with_jpeg_size(FILES['JPEG'], 65_500, 65_500)
    assert check_image(data, 'x.jpg') == 'too large (65500 x 65500 pixels)' and MAX_PIXELS < 10**8


def test_where_warnings_are_errors():
    data = with_jpeg_size(FILES['JPEG'], 10_000, 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert check_image(data, 'x.jpg') == 'too large (more pixels than Pillow opens)'


@pytest.mark.parametrize('error, reason', [
    (MemoryError(), 'too large (out of memory)'),
    (cv2.error('no'), 'another format under a wrong name (PNG that cv2 does not decode)'),
])
def test_errors_of_the_decoder_are_reasons(monkeypatch, error, reason):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(mmcv, 'imfrombytes', fail)
    assert check_image(FILES['PNG'], 'x.jpg') == reason


def test_a_decoder_that_turns_or_colours_images_otherwise(monkeypatch):
    right = decoded(FILES['PNG'])
    monkeypatch.setattr(mmcv, 'imfrombytes', lambda *args, **kwargs: right[::-1])
    assert check_image(FILES['PNG'], 'x.png') == 'cv2 gives other colours or another orientation than Pillow'
    monkeypatch.setattr(mmcv, 'imfrombytes', lambda *args, **kwargs: right.transpose(1, 0, 2))
    assert check_image(FILES['PNG'], 'x.png') == 'cv2 gives 180 x 240 pixels instead of 240 x 180'
    monkeypatch.setattr(mmcv, 'imfrombytes', lambda *args, **kwargs: None)
    assert check_image(FILES['PNG'], 'x.png') == 'cv2 does not decode this PNG'


@pytest.mark.parametrize('size', [(1, 1), (63, 65), (64, 64), (65, 127), (128, 129), (1000, 3), (333, 777)])
def test_noise_of_any_size_is_compared_pixel_by_pixel(size):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8))
    assert check_image(encoded(noise, 'PNG'), 'x.png') is None


def test_damaged_exif_is_no_reason():
    """Frequent in ImageNet, and decoders take such photos as they lie."""
    for exif in (bytes(20), b'MM\0*\xff\xff\xff\xff', b'II*\0\x08\0\0\0\xff\xff' + bytes(30)):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert check_image(encoded(NOISY, 'JPEG', exif=b'Exif\0\0' + exif), 'x.jpg') is None


def test_decoder_names():
    assert decoder_name('cv2') == f'cv2 {cv2.__version__}'
    assert decoder_name('pillow') == f'pillow {PIL.__version__}'
    for ask in (lambda: decoder_name('turbojpeg'), lambda: check_image(b'', 'x', 'tifffile')):
        with pytest.raises(UserError, match="the decoder '(turbojpeg|tifffile)': use cv2 or pillow"):
            ask()


@pytest.mark.realdata
@pytest.mark.skipif(DATA is None, reason='MMTINYVIT_DATA names no folder of real photos')
def test_real_photos_pass_and_their_halves_do_not():
    files = sorted(path for path in Path(DATA, 'imagenet_sample/val').rglob('*') if path.is_file())
    assert len(files) == 1000
    for path in files[::10]:
        data = path.read_bytes()
        assert check_image(data, path.name) is None
        assert check_image(data[:len(data) // 2], path.name) == 'truncated'
