"""LoadImage against mmcv's loader and PIL; ``test_image_kinds.py`` has the rarer kinds of files."""
import io

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmtinyvit.datasets import LoadImage
from mmtinyvit.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
GREY = PIXELS[..., 0]


@pytest.mark.parametrize(('mode', 'suffix'),
                         [('RGB', 'jpg'), ('L', 'jpg'), ('CMYK', 'jpg'), ('RGB', 'png'), ('L', 'png'), ('P', 'png'),
                          ('RGBA', 'png'), ('1', 'png'), ('RGB', 'webp')])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_same_pixels_as_mmcv_and_always_three_channels(tmp_path, mode, suffix, backend):
    path = tmp_path / f'x.{suffix}'
    Image.fromarray(PIXELS).convert(mode).save(path)
    ours = LoadImage(imdecode_backend=backend)({'img_path': str(path)})
    theirs = LoadImageFromFile(imdecode_backend=backend)({'img_path': str(path)})
    assert ours['img'].shape == (11, 13, 3) and ours['img'].dtype == np.uint8
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert (ours['img_shape'], ours['ori_shape']) == (theirs['img_shape'], theirs['ori_shape']) == ((11, 13),) * 2


def test_lossless_file_comes_back_in_bgr(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'x.png')
    loader = TRANSFORMS.build(dict(type='mmtinyvit.LoadImage'))
    np.testing.assert_array_equal(loader({'img_path': str(tmp_path / 'x.png')})['img'], PIXELS[..., ::-1])


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, 'PNG')
    return buffer.getvalue()


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('content', [b'', b'no image', png()[:60]], ids=['empty', 'text', 'cut'])
def test_what_cannot_be_decoded_is_named(tmp_path, content, backend):
    path = tmp_path / 'broken.png'
    path.write_bytes(content)
    with pytest.raises(UserError, match='The image .*broken.png cannot be decoded .*: replace the file'):
        LoadImage(imdecode_backend=backend)({'img_path': str(path)})


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'The image .*gone.png cannot be read \(No such file'):
        LoadImage()({'img_path': str(tmp_path / 'gone.png')})


def blurred(width: int, height: int, suffix: str, orientation: int = 1) -> bytes:
    """An encoded image of smooth colours."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[:5, :5]).resize((width, height), Image.Resampling.BICUBIC).save(
        buffer, suffix, quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize('size, min_side, expected', [
    ((400, 300), None, (300, 400)),
    ((400, 300), 301, (300, 400)),
    ((400, 300), 300, (300, 400)),
    ((400, 300), 151, (300, 400)),
    ((400, 300), 150, (150, 200)),
    ((400, 300), 75, (75, 100)),
    ((400, 300), 38, (38, 50)),  # 37.5 pixels: decoders round up
    ((400, 300), 1, (38, 50)),
    ((301, 401), 151, (201, 151)),
    ((1, 1), 1, (1, 1)),
])
def test_jpeg_files_are_reduced_to_the_smallest_part_that_keeps_the_shorter_side(tmp_path, size, min_side, expected):
    path = tmp_path / 'x.jpg'
    path.write_bytes(blurred(*size, 'JPEG'))
    found = LoadImage(min_side=min_side)({'img_path': str(path)})
    assert found['img'].shape == (*expected, 3)
    assert found['img_shape'] == found['ori_shape'] == expected
    full = LoadImage()({'img_path': str(path)})['img']
    averaged = cv2.resize(full, expected[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(averaged.astype(int) - found['img']).mean() < 3


def test_a_turned_photo_is_reduced_by_the_same_part(tmp_path):
    path = tmp_path / 'x.jpg'
    path.write_bytes(blurred(400, 300, 'JPEG', orientation=6))
    assert LoadImage(min_side=150)({'img_path': str(path)})['img_shape'] == (200, 150)


@pytest.mark.parametrize('suffix', ['PNG', 'WEBP'])
def test_only_jpeg_files_are_reduced(tmp_path, suffix):
    path = tmp_path / 'x.jpg'  # whatever the name
    path.write_bytes(blurred(400, 300, suffix))
    reduced, full = (LoadImage(min_side=side)({'img_path': str(path)})['img'] for side in (10, None))
    np.testing.assert_array_equal(reduced, full)


def test_a_broken_file_is_named_also_if_it_were_to_be_reduced(tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(blurred(400, 300, 'JPEG')[:100])
    with pytest.raises(UserError, match='The image .*broken.jpg cannot be decoded'):
        LoadImage(min_side=10)({'img_path': str(path)})


@pytest.mark.parametrize('settings', [dict(min_side=0), dict(min_side=100, imdecode_backend='pillow')])
def test_min_side_that_cannot_be_had(settings):
    with pytest.raises(UserError, match='min_side=.* needs a positive number of pixels and imdecode_backend='):
        LoadImage(**settings)


# ---------------------------------------------------------------- images that somebody else has decoded
@pytest.mark.parametrize('array, expected', [
    (GREY, GREY[..., None].repeat(3, 2)), (GREY[..., None], GREY[..., None].repeat(3, 2)), (PIXELS, PIXELS),
    (np.dstack([PIXELS, GREY]), PIXELS), (PIXELS.astype(np.uint16) * 256 + 77, PIXELS),
    (GREY.astype(np.uint16) * 256, GREY[..., None].repeat(3, 2)),
], ids=['grey', 'one channel', 'BGR', 'alpha', '16 bits', 'grey of 16 bits'])
def test_arrays_become_what_files_become(array, expected):
    loaded = LoadImage()(dict(img=array))['img']
    assert loaded.dtype == np.uint8 and loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize('array, said', [
    (PIXELS / np.float32(255), r'shape \(11, 13, 3\) and type float32 is none of pixels from 0 to 255'),
    (PIXELS.astype(np.int64), 'type int64'), (PIXELS > 9, 'type bool'), (PIXELS[..., :2], r'shape \(11, 13, 2\) is no'),
    (PIXELS[None], r'shape \(1, 11, 13, 3\) is no image'), (PIXELS.tolist(), 'shape list'),
])
def test_arrays_of_an_unknown_range_are_refused(array, said):
    with pytest.raises(UserError, match=said):
        LoadImage()(dict(img=array))
