"""RandAugment and its faster operations against mmpretrain's, bit for bit."""
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmtinyvit.datasets import SeededAugment, rng_scope

RANDOM = np.random.default_rng(0)
SMOOTH = [np.asarray(Image.fromarray(RANDOM.integers(0, 256, (5, 4, 3), np.uint8)).resize(size, 2))
          for size in ((64, 48), (224, 224))]
IMAGES = {
    'smooth': SMOOTH[0], 'large': SMOOTH[1], 'dark': SMOOTH[0] // 5, 'bright': 255 - SMOOTH[0] // 9,
    'noise': RANDOM.integers(0, 256, (31, 17, 3), np.uint8), 'flat': np.full((6, 5, 3), 77, np.uint8),
    'two values': RANDOM.choice([0, 255], (16, 16, 3)).astype(np.uint8),
    'one channel flat': np.dstack([SMOOTH[0][..., :2], np.full((48, 64), 255, np.uint8)]),
    'one pixel': np.array([[[1, 2, 3]]], np.uint8), 'few levels': RANDOM.integers(7, 9, (40, 40, 3), np.uint8),
}
LEVEL = dict(total_level=10, magnitude_level=9, magnitude_std=0.5)
OPERATIONS = {
    'AutoContrast': {}, 'Equalize': {}, 'Solarize': dict(magnitude_range=(256, 0), **LEVEL),
    'SolarizeAdd': dict(magnitude_range=(0, 110), **LEVEL),
}


def run(transform, image: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """The pixels, and the next random number."""
    with rng_scope(seed):
        return transform(dict(img=image.copy(), img_shape=image.shape[:2]))['img'], np.random.rand()


def build(**settings) -> object:
    init_default_scope('mmpretrain')
    return TRANSFORMS.build(settings)


@pytest.mark.parametrize('name', OPERATIONS)
@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
def test_operation(name, image):
    theirs = build(type=name, prob=0.8, **OPERATIONS[name])
    ours = build(type=f'mmtinyvit.{name}', prob=0.8, **OPERATIONS[name])
    for seed in range(25):
        (a, end), (b, other_end) = run(ours, image, seed), run(theirs, image, seed)
        assert a.dtype == b.dtype and (a == b).all() and end == other_end


@pytest.mark.parametrize('magnitude', [dict(thr=0), dict(thr=256), dict(thr=100.5)])
def test_fixed_threshold(magnitude):
    theirs, ours = (build(type=name, prob=1., **magnitude) for name in ('Solarize', 'mmtinyvit.Solarize'))
    assert (run(ours, SMOOTH[0], 0)[0] == run(theirs, SMOOTH[0], 0)[0]).all()


@pytest.mark.parametrize('policies', ['timm_increasing', 'simple_increasing',
                                      [dict(type='Equalize', prob=1.), dict(type='Invert')]])
def test_rand_augment(policies):
    settings = dict(policies=policies, num_policies=2, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
                    **LEVEL)
    theirs, ours = build(type='RandAugment', **settings), build(type='mmtinyvit.RandAugment', **settings)
    for seed in range(150):
        image = list(IMAGES.values())[seed % 2]
        (a, end), (b, other_end) = run(ours, image, seed), run(theirs, image, seed)
        assert (a == b).all() and end == other_end
    kinds = {type(transform).__module__.partition('.')[0] for transform in ours.transforms}
    assert kinds == {'mmtinyvit', 'mmpretrain'}


def test_it_can_be_seeded():
    augment = SeededAugment([dict(type='mmtinyvit.RandAugment', policies='timm_increasing', num_policies=2, **LEVEL)],
                            view=0)
    runs = [[augment(dict(img=SMOOTH[0].copy(), sample_key=str(key)))['img'] for key in range(8)] for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*runs, strict=True)) and len({a.tobytes() for a in runs[0]}) > 4


def test_an_unknown_policy_is_refused():
    with pytest.raises(AssertionError, match='timm_increasing'):
        build(type='mmtinyvit.RandAugment', policies='none', num_policies=2, magnitude_level=9)
