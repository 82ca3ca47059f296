"""Existing stores still replay: seeds, random numbers, pairs and pixels are those of the release that wrote them.

``golden/views.json`` holds what the library computed at commit da615b5. No value in it may change: a store that was
saved with the old ones could not be replayed any more. ``python tests/datasets/test_golden_views.py`` adds new cases
and keeps all values that are there. The values are the same on processors with and without AVX.
"""
import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmtinyvit.datasets import ImageFolder, SeededAugment, derive_seed, draw_mix, rng_scope, set_view
from mmtinyvit.datasets.mixing import pairs_of_view
from mmtinyvit.datasets.seeding import seeded_permutation
from mmtinyvit.paths import config_root

GOLDEN = Path(__file__).parent / 'golden/views.json'
DATA = os.environ.get('MMTINYVIT_DATA')
SEEDS = (0, 1, 2**32 - 1, 2**32, 7296583553147106439, 2**63 - 1)
NAMES = [(0, 0, ''), (0, 0, 'n01440764/n01440764_10026.JPEG'), (0, 89, 'n01440764/n01440764_10026.JPEG'),
         (3, 0, 'train/0/0001.png'), (2**64 - 1, 2**40, 'ünï/코드.png'), (7, 1, 'caf\udce9.png')]
RECIPES = ('tinyvit/distill_in21k.py', 'demo/distill.py', 'imagenette/distill.py', 'tinymim/mae_base_to_tiny.py')
BGR_MEAN, BGR_STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
# What the recipes used before the faster transforms of this library were there, and torchvision's
MMPRETRAIN = [
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.08, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
         magnitude_std=0.5, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=BGR_MEAN, fill_std=BGR_STD),
]
TORCHVISION = [
    dict(type='torchvision/ToTensor'),
    dict(type='torchvision/RandomCrop', size=48),
    dict(type='torchvision/RandomHorizontalFlip'),
    dict(type='torchvision/RandomVerticalFlip'),
]


def digest(*arrays: np.ndarray) -> str:
    """16 hexadecimal digits for shapes, types and values."""
    found = hashlib.blake2b(digest_size=8)
    for array in map(np.ascontiguousarray, arrays):
        found.update(f'{array.dtype.str} {array.shape}'.encode())
        found.update(array)
    return found.hexdigest()


def picture(name: str, height: int, width: int) -> np.ndarray:
    """``(H, W, 3)`` uint8: smooth colours under some noise, all from a hash of the name."""
    def noise(what: str, *shape: int) -> np.ndarray:
        return np.frombuffer(hashlib.shake_256(f'{name} {what}'.encode()).digest(int(np.prod(shape))),
                             np.uint8).reshape(shape).astype(np.int64)

    coarse = noise('colours', height // 8 + 3, width // 8 + 3, 3).repeat(8, 0).repeat(8, 1)
    sums = np.pad(coarse, ((1, 0), (1, 0), (0, 0))).cumsum(0).cumsum(1)
    smooth = (sums[9:, 9:] - sums[:-9, 9:] - sums[9:, :-9] + sums[:-9, :-9]) // 81  # the mean of 9 x 9 pixels
    return (smooth[:height, :width] * 7 // 8 + noise('noise', height, width, 3) // 8).astype(np.uint8)


def drawn(seed: int) -> list[str]:
    """What the three generators draw in a scope, to nine digits: NumPy, ``random``, torch."""
    with rng_scope(seed):
        numbers = [
            [*np.random.rand(3), np.random.normal(), np.random.randint(1000), np.random.normal(3., 2.),
             *np.random.randn(3), np.random.uniform(-1, 1), np.random.beta(0.8, 0.8), np.random.choice(17),
             *np.random.permutation(5)],
            [random.random(), random.gauss(0, 1), random.randint(0, 99), random.choice('abc').encode()[0],
             random.gauss(0, 1), random.gauss(0, 1), random.uniform(2, 3), *random.sample(range(50), 3)],
            [*torch.rand(3).tolist(), torch.randn(1).item(), torch.randint(1000, (1, )).item(),
             *torch.randperm(5).tolist(), torch.empty(1).uniform_(2, 3).item()]]
    return [' '.join(f'{float(number):.9g}' for number in each) for each in numbers]


def mix_with(key: str) -> list:
    """Share and box of one pair."""
    keep, box = draw_mix('a', key, 7, 2, 224, 200, mixup_alpha=0.8, cutmix_alpha=1., switch_prob=0.5)
    return [f'{keep:.12g}', list(box) if box else None]


def transforms_of(recipe: str) -> list[dict]:
    """The view transforms of a recipe's training."""
    dataset = Config.fromfile(config_root() / recipe).train_dataloader.dataset
    return next(step['transforms'] for step in dataset.pipeline if step['type'] == 'mmtinyvit.SeededAugment')


def pixels(transforms: list[dict]) -> list[str]:
    """Digests of two views of two images each under two base seeds."""
    init_default_scope('mmpretrain')
    found = []
    for base_seed in (0, 7):
        augment = SeededAugment(transforms, base_seed=base_seed)
        for key, size in (('n01/a.JPEG', (270, 380)), ('b.png', (96, 80))):
            for view in (0, 1, 13):
                image = augment(dict(img=picture(key, *size), sample_key=key, view=view))['img']
                found.append(digest(*map(np.asarray, image if isinstance(image, list) else [image])))
    return found


def photos_under(recipe: str) -> list[str]:
    """Digests of real photos, decoded, replayed and packed, one by one and as a batch."""
    init_default_scope('mmpretrain')
    dataset = ImageFolder(data_root=f'{DATA}/imagenet_sample', data_prefix='val', pipeline=[
        dict(type='mmtinyvit.LoadImage'), dict(type='mmtinyvit.SeededAugment', transforms=transforms_of(recipe)),
        dict(type='mmtinyvit.PackViewInputs')])
    indices, found = range(3, 1000, 83), []
    for view in (0, 2):
        set_view(dataset, view)
        singles = [dataset[i] for i in indices]
        for item, other in zip(singles, dataset.__getitems__(list(indices)), strict=True):
            assert torch.equal(item['inputs'], other['inputs'])
        found += [digest(item['inputs'].numpy()) for item in singles]
    return found


CASES = {
    **{f'seed of {name}'.encode('utf-8', 'backslashreplace').decode(): (derive_seed, *name) for name in NAMES},
    **{f'drawn with {seed}': (drawn, seed) for seed in SEEDS},
    **{f'permutation of 1001 with {seed}': (lambda seed: digest(seeded_permutation(1001, seed)), seed)
       for seed in SEEDS},
    **{f'pairs of {view}': (lambda view: digest(pairs_of_view(999, 7, view)), view) for view in (0, 5)},
    **{f'mix of a and {key}': (mix_with, key)
       for key in 'bcdefg'},
    'views of mmpretrain': (pixels, MMPRETRAIN),
    'views of torchvision': (pixels, TORCHVISION),
    **{f'views of {recipe}': (lambda recipe: pixels(transforms_of(recipe)), recipe) for recipe in RECIPES},
}
PHOTO_CASES = {f'photos of {recipe}': (photos_under, recipe) for recipe in RECIPES[:3]}


@pytest.fixture(scope='module')
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize('case', CASES)
def test_as_it_was(golden, case):
    function, *args = CASES[case]
    assert function(*args) == golden[case]


@pytest.mark.realdata
@pytest.mark.skipif(DATA is None, reason='MMTINYVIT_DATA names no folder of real photos')
@pytest.mark.parametrize('case', PHOTO_CASES)
def test_photos_as_they_were(golden, case):
    function, *args = PHOTO_CASES[case]
    assert function(*args) == golden[case]


def write() -> Iterator[str]:
    """Add the cases that the file does not have yet; yields their names."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for case, (function, *args) in (CASES | PHOTO_CASES).items():
        if case not in golden:
            golden[case] = function(*args)
            yield case
    GOLDEN.write_text(json.dumps(golden, indent=1) + '\n')


if __name__ == '__main__':
    print(*write(), sep='\n')
