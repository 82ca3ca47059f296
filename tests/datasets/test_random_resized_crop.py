import inspect
import os
import subprocess
import sys

import mmcv
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmtinyvit.datasets import RandomResizedCrop, rng_scope
from mmtinyvit.errors import UserError

SIZES = [(60, 45), (300, 500), (224, 224), (7, 640), (33, 32)]


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours under some noise."""
    dice = np.random.default_rng(seed)
    coarse = dice.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return np.clip(smooth + dice.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def build(**settings) -> object:
    init_default_scope('mmpretrain')
    return TRANSFORMS.build(settings)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_the_crops_are_mmpretrains_and_the_pixels_nearly_pillows(size, interpolation):
    settings = dict(scale=(40, 56), crop_ratio_range=(.08, 1.), interpolation=interpolation)
    theirs = build(type='RandomResizedCrop', backend='pillow', **settings)
    ours = build(type='mmtinyvit.RandomResizedCrop', **settings)
    for seed in range(12):
        image, found, ends = photo(*size, seed), [], []
        for transform in (ours, theirs):
            with rng_scope(seed):
                found.append(transform(dict(img=image.copy())))
                ends.append(np.random.rand())
        assert ends[0] == ends[1]  # as many numbers drawn
        assert found[0]['img'].shape == (40, 56, 3) and found[0]['img_shape'] == (40, 56)
        differences = np.abs(found[0]['img'].astype(int) - found[1]['img'])
        assert differences.mean() < .3 and np.quantile(differences, .99) <= 1


@pytest.mark.parametrize('size', SIZES)
def test_as_near_to_the_exact_result_as_pillow(size):
    image = photo(*size)
    crop = RandomResizedCrop(48, crop_ratio_range=(1., 1.), max_attempts=0, aspect_ratio_range=(1e-3, 1e3))
    ours = crop(dict(img=image))['img']
    exact = torch.nn.functional.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None].double(), (48, 48),
                                            mode='bicubic', antialias=True)[0].permute(1, 2, 0).clamp(0, 255).numpy()
    pillow = mmcv.imresize(image, (48, 48), interpolation='bicubic', backend='pillow')
    assert np.abs(ours - exact).mean() < 1.02 * np.abs(pillow - exact).mean() < .35


def test_the_result_is_a_plain_image_of_its_own():
    image = photo(64, 64)
    before = image.copy()
    result = RandomResizedCrop(64, crop_ratio_range=(1., 1.), aspect_ratio_range=(1., 1.))(dict(img=image))['img']
    assert (result == image).all() and result.flags.c_contiguous and result.flags.writeable
    result[:] = 0  # as erasing does
    assert (image == before).all()


def digest_of_resized(path: str) -> str:
    """The crops in an ``.npz`` file, resized; imports little, for a process of its own."""
    import hashlib

    import numpy
    import torch

    digest = hashlib.sha256()
    for crop in numpy.load(path).values():
        maps = torch.from_numpy(crop)[None].permute(0, 3, 1, 2)
        for mode in ('bicubic', 'bilinear'):
            resized = torch.nn.functional.interpolate(maps, (32, 32), mode=mode, antialias=True)
            digest.update(resized.permute(0, 2, 3, 1).contiguous().numpy())
    return digest.hexdigest()


def test_every_processor_gives_the_same_pixels(tmp_path):
    """PyTorch chooses its loops by the instructions that a processor has; the plainest ones are there on all."""
    path = str(tmp_path / 'crops.npz')
    np.savez(path, *(photo(*size, seed) for seed, size in enumerate(SIZES * 4)))
    code = f'{inspect.getsource(digest_of_resized)}\nprint(digest_of_resized({path!r}))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                          env=os.environ | dict(ATEN_CPU_CAPABILITY='default'))
    assert done.stdout.strip() == digest_of_resized(path)


def test_it_is_found_by_its_name():
    assert type(MMENGINE_TRANSFORMS.build(dict(type='mmtinyvit.RandomResizedCrop', scale=8))) is RandomResizedCrop


@pytest.mark.parametrize('image', [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_images_are_refused(image):
    with pytest.raises(UserError, match=r'takes images of shape \(H, W, C\) and type uint8'):
        RandomResizedCrop(4)(dict(img=image))


def test_other_interpolations_are_refused():
    with pytest.raises(UserError, match="interpolation='lanczos'.*mmpretrain.RandomResizedCrop"):
        RandomResizedCrop(4, interpolation='lanczos')
