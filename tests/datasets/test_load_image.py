"""LoadImage against mmcv's loader and PIL, on real encoded files of every kind."""
import io

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmtinyvit.datasets import LoadImage
from mmtinyvit.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)


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
