"""Every kind of image decodes to what Pillow gives as RGB, or ``check_image`` says why it does not."""
import io
import os
import re

import numpy as np
import pytest
from encoded_images import ALPHA, KINDS, RGB, encoded
from PIL import Image, ImageOps, features

from mmtinyvit.datasets import LoadImage
from mmtinyvit.datasets.images.check import check_image

LOSSY = ('JPEG', 'WebP lossy', 'AVIF', 'TIFF JPEG', 'TIFF CMYK')
TURNED = 'gives other colours or another orientation|gives .* pixels instead of'
# What a decoder may be unable to show, by backend. It is then refused with this reason; otherwise it is right.
REFUSED = {
    'cv2': {
        **{f'WebP EXIF {n}': TURNED for n in range(2, 9)},
        'JPEG turned by XMP alone': TURNED,
        'TIFF alpha': 'other colours',
        'TIFF CIELAB': 'other colours',
        'TIFF 32 bits': '32 bits',
        'TIFF floating point': '32 bits',
        **{f'{kind} under another name': f'another format under a wrong name .{kind.replace(" ", "")} that cv2'
           for kind in ('GIF', 'AVIF', 'JPEG 2000')},
    },
    'pillow': {
        'PNG grey and alpha': 'other colours',
        'TIFF grey and alpha': 'other colours',
        'PNG 16 bits grey': 'other colours',
        'TIFF 16 bits grey': 'other colours',
        'PGM 16 bits': 'other colours',
        'TIFF 32 bits': '32 bits',
        'TIFF floating point': '32 bits',
    },
}


def right(data: bytes) -> np.ndarray:
    """``(H, W, 3)`` RGB by Pillow; grey of 16 bits, which Pillow cuts off at 255, divided by 256."""
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith('I'):
        return (np.asarray(turned, np.int64) >> 8)[..., None].repeat(3, axis=2)
    return np.asarray(turned.convert('RGB'), np.int64)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('kind', KINDS)
def test_as_pillow_or_refused(tmp_path, kind, backend):
    if not features.check({'AVIF': 'avif', 'JPEG 2000': 'jpg_2000'}.get(kind.split(' under')[0], 'jpg')):
        pytest.skip('this Pillow does not have the format')
    data = KINDS[kind]()
    reason = check_image(data, 'x.jpg', backend)
    if reason is not None:
        assert re.search(REFUSED[backend].get(kind, 'nothing may refuse it'), reason), reason
        return
    path = tmp_path / 'x.jpg'
    path.write_bytes(data)
    found = LoadImage(imdecode_backend=backend)({'img_path': str(path)})['img']
    expected = right(data)
    assert found.dtype == np.uint8 and found.shape == expected.shape
    difference = np.abs(found[..., ::-1] - expected)
    assert difference.mean() < 1 and difference.max() <= (8 if kind.startswith(LOSSY) else 0)


@pytest.mark.parametrize('backend, kind', [('pillow', 'PNG 16 bits grey'), ('pillow', 'TIFF 16 bits grey'),
                                           ('cv2', 'TIFF alpha'), ('cv2', 'TIFF floating point')])
def test_what_would_be_garbage_is_refused(backend, kind):
    assert check_image(KINDS[kind](), 'x.png', backend)


@pytest.mark.parametrize('backend, mode, suffix', [('pillow', 'LA', 'PNG'), ('cv2', 'RGBA', 'TIFF')])
def test_opaque_alpha_is_fine_where_transparency_is_refused(backend, mode, suffix):
    assert check_image(encoded(Image.fromarray(RGB).convert(mode), suffix), 'x', backend) is None


@pytest.mark.parametrize('kind', ['PNG alpha', 'WebP lossless, alpha', 'PNG palette, translucent'])
def test_transparency_is_left_out(tmp_path, kind):
    """The colours are those that the file holds under its transparent pixels, as Pillow's ``convert('RGB')`` has it."""
    path = tmp_path / 'x.png'
    path.write_bytes(KINDS[kind]())
    found = LoadImage()({'img_path': str(path)})['img'][..., ::-1].astype(int)
    assert np.abs(found - RGB).mean() < 12  # the palette has 256 colours
    assert np.abs(found - RGB * (ALPHA[..., None] / 255)).mean() > 40


@pytest.mark.parametrize('name', [
    b'two words.jpg', b"it's.jpg", b'"quoted".jpg', b'line\nbreak.jpg', b'tab\t.jpg', b'caf\xe9.jpg', b'\xff\xfe.jpg',
    'ünï 코드 🖼.jpg'.encode(), b'100%.jpg', b'back\\slash.jpg', b'*?[x].jpg', b'a:b;c&d|e$f`g.jpg', b'-rf.jpg',
    b' .jpg', b'x' * 251 + b'.jpg',
])
def test_any_name_of_a_file(tmp_path, name):
    path = os.path.join(str(tmp_path), os.fsdecode(name))
    with open(path, 'wb') as file:
        file.write(encoded(Image.fromarray(RGB), 'PNG'))
    np.testing.assert_array_equal(LoadImage()({'img_path': path})['img'], RGB[..., ::-1])
