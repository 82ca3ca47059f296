"""A view's pixels depend on its name: not on workers, batches, order, or what ran before."""
import copy
import hashlib
import multiprocessing
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.registry import TRANSFORMS
from tiny_flow import VIEW_TRANSFORMS, photo_dataset
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from mmtinyvit.datasets import EpochClock, IndexedImages, SeededAugment, ViewDataset, derive_seed, set_view
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.datasets.views import find_seeded_augment, iter_transforms
from mmtinyvit.errors import UserError

TORCHVISION = [
    dict(type='torchvision/ToTensor'),
    dict(type='torchvision/RandomResizedCrop', size=32),
    dict(type='torchvision/RandomHorizontalFlip'),
    dict(type='torchvision/TrivialAugmentWide'),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


@pytest.fixture(scope='module')
def dataset(photos):
    """Views of the photos under the full augmentation."""
    init_default_scope('mmpretrain')
    return DATASETS.build(photo_dataset(photos))


@pytest.fixture(scope='module')
def reference(dataset):
    """Digests by view and key, made one by one in this process."""
    viewed = ViewDataset(dataset)
    return digests(viewed[view, i] for view in range(3) for i in range(len(dataset)))


def digests(items) -> dict:
    return {(item['data_samples'].view, item['data_samples'].sample_key): fingerprint(item['inputs']) for item in items}


def fingerprint(image) -> str:
    return hashlib.sha256(np.ascontiguousarray(image)).hexdigest()


def photo(seed: int = 0, height: int = 40, width: int = 52) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 200, (height, width, 3)).astype(np.uint8)


def collate(items: list[dict]) -> list[dict]:
    return items


def stir() -> None:
    """Leave the ambient generators in a state nobody has seen."""
    np.random.seed()
    random.seed()
    torch.seed()


def test_views_differ(reference):
    assert len(reference) == 42
    assert len(set(reference.values())) == 42


@pytest.mark.parametrize('workers, batch_size, shuffle', [(0, 5, True), (2, 4, True)])
def test_loaders_replay(dataset, reference, workers, batch_size, shuffle):
    seen = {}
    loader = DataLoader(dataset, batch_size, shuffle, num_workers=workers, collate_fn=collate,
                        persistent_workers=workers > 0)
    for view in (2, 0, 1):
        stir()
        set_view(dataset, view)
        seen |= digests(item for batch in loader for item in batch)
    assert seen == reference


def test_a_spawned_persistent_worker_replays(dataset, photos, reference, tmp_path):
    """Also from an image index, which the worker opens by itself."""
    index_images(photos, tmp_path / 'index')
    dataset = IndexedImages(str(tmp_path / 'index'), str(photos), pipeline=dataset.pipeline.transforms)
    seen = {}
    loader = DataLoader(dataset, 4, num_workers=1, collate_fn=collate, persistent_workers=True,
                        multiprocessing_context=multiprocessing.get_context('spawn'))
    for view in (1, 0, 2):
        set_view(dataset, view)
        seen |= digests(item for batch in loader for item in batch)
    assert seen == reference


def test_order_of_views_does_not_matter(dataset, reference):
    viewed = ViewDataset(dataset)
    names = [(view, i) for view in range(3) for i in range(len(dataset))]
    random.Random(0).shuffle(names)
    assert digests(viewed[name] for name in names) == reference


def every_policy() -> list:
    init_default_scope('mmpretrain')
    randaugment = TRANSFORMS.build(next(t for t in VIEW_TRANSFORMS if t['type'] == 'RandAugment'))
    return [pytest.param(policy, id=type(policy).__name__) for policy in randaugment.transforms]


@pytest.mark.parametrize('policy', every_policy())
def test_every_policy_of_randaugment_draws_from_the_three_generators(policy):
    policy.prob = 0.7  # also the draw that decides whether the policy is on
    augment = SeededAugment([policy], view=0)
    image, outcomes = photo(), []
    for i in range(6):
        runs = []
        for _ in range(2):
            stir()
            runs.append(fingerprint(augment(dict(img=image.copy(), sample_key=str(i)))['img']))
        assert runs[0] == runs[1]
        outcomes.append(runs[0])
    assert len(set(outcomes)) > 1  # it does something, and not always the same


def test_all_policies_of_the_recipe_are_there():
    names = {param.id for param in every_policy()}
    assert names == {'AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize', 'SolarizeAdd',
                     'ColorTransform', 'Contrast', 'Brightness', 'Sharpness', 'Shear', 'Translate'}


@pytest.mark.parametrize('transforms', [TORCHVISION, VIEW_TRANSFORMS], ids=['torchvision', 'mmpretrain'])
def test_nothing_leaks_in_or_out(transforms):
    augment = SeededAugment(transforms, view=4, base_seed=2)

    def run() -> str:
        return fingerprint(augment(dict(img=photo(), sample_key='a'))['img'])

    stir()
    first = run()
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    undisturbed = np.random.rand(3).tolist(), random.random(), torch.rand(3).tolist()
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    assert run() == first
    assert (np.random.rand(3).tolist(), random.random(), torch.rand(3).tolist()) == undisturbed


def test_plain_callables_are_wrapped():
    augment = SeededAugment([lambda results: results | dict(drawn=(np.random.rand(), random.random()))], view=0)
    stir()
    first = augment(dict(sample_key='k'))['drawn']
    assert augment(dict(sample_key='k'))['drawn'] == first != augment(dict(sample_key='l'))['drawn']


def test_the_name_is_recorded(tmp_path):
    augment = SeededAugment([], base_seed=9, view=3, key_root=str(tmp_path))
    results = augment(dict(img_path=str(tmp_path / 'a' / 'b.png')))
    assert (results['base_seed'], results['view'], results['sample_key']) == (9, 3, 'a/b.png')
    assert results['aug_seed'] == derive_seed(9, 3, 'a/b.png')


def test_the_view_of_the_results_comes_first_then_the_fixed_one_then_the_clock():
    augment = SeededAugment([], view=3)
    augment.clock.view = 5
    assert augment(dict(sample_key='k', view=1))['view'] == 1
    assert augment(dict(sample_key='k'))['view'] == 3
    augment.view = None
    assert augment(dict(sample_key='k'))['view'] == 5


def test_an_image_outside_key_root(tmp_path):
    with pytest.raises(UserError, match='does not lie under key_root'):
        SeededAugment([], view=0, key_root=str(tmp_path / 'a'))(dict(img_path=str(tmp_path / 'b.png')))


def test_a_sample_without_a_name():
    with pytest.raises(UserError, match='key_root='):
        SeededAugment([], view=0)(dict(img_path='a.png'))


def test_a_dropped_sample_is_an_error():
    with pytest.raises(UserError, match='dropped k'):
        SeededAugment([lambda results: None], view=0)(dict(sample_key='k'))


# ---------------------------------------------------------------- the clock
class Piped(Dataset):
    """A dataset with a pipeline."""

    def __init__(self, pipeline) -> None:
        self.pipeline = pipeline

    def __len__(self) -> int:
        return 1


def test_copies_are_the_same_clock():
    clock = EpochClock()
    copied = copy.deepcopy(dict(clock=[clock]))['clock'][0]
    clock.view = 5
    assert copied.view == 5


def test_a_clock_nobody_set_says_who_should():
    with pytest.raises(UserError, match='SparseLogitDistillHook.*EpochClockHook'):
        EpochClock().view  # noqa: B018


def test_a_fresh_augment_pickles_with_its_clock():
    augment = pickle.loads(pickle.dumps(SeededAugment([])))
    augment.clock.view = 2
    assert augment.clock.view == 2


def test_set_view_reaches_through_wrappers():
    augments = first, second, third = [SeededAugment([]) for _ in range(3)]
    nested = SimpleNamespace(transforms=[SimpleNamespace(transforms=[[third]])])
    wrapped = ConcatDataset([Subset(Piped(SimpleNamespace(transforms=[first])), [0])])
    wrapped.datasets += [SimpleNamespace(dataset=Piped([second])), Piped(nested)]
    assert set_view(wrapped, 6) == 3
    assert [augment.clock.view for augment in augments] == [6, 6, 6]
    assert [t for t in iter_transforms(wrapped) if isinstance(t, SeededAugment)] == augments


def test_set_view_counts_nothing_where_nothing_is():
    assert set_view(SimpleNamespace(pipeline=None), 1) == 0


@pytest.mark.parametrize('num', [0, 2])
def test_exactly_one_seeded_augment(num):
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[SeededAugment([]) for _ in range(num)]))
    with pytest.raises(UserError, match=f'{num} SeededAugment'):
        find_seeded_augment(dataset)


# ---------------------------------------------------------------- ViewDataset
def test_an_item_of_a_view_dataset_is_view_and_index(dataset):
    views = ViewDataset(dataset)
    sample = views[1, 2]['data_samples']
    assert len(views) == 14 and (sample.base_seed, sample.view) == (7, 1)
    assert sample.sample_key == dataset.get_data_info(2)['sample_key']


def test_a_view_dataset_of_nothing():
    empty = type('Empty', (), dict(pipeline=None, get_data_info=lambda self, i: {}, __len__=lambda self: 0))
    with pytest.raises(UserError, match='has no samples'):
        ViewDataset(empty())


def test_a_view_dataset_of_a_wrapper(dataset):
    with pytest.raises(UserError, match='ConcatDataset joins datasets'):
        ViewDataset(ConcatDataset([dataset]))


def test_a_dropped_sample_is_named(photos):
    dataset = DATASETS.build(photo_dataset(photos))
    dataset.pipeline.transforms.insert(1, lambda results: None)
    with pytest.raises(UserError, match=r'dropped .*\.png'):
        ViewDataset(dataset)[0, 0]
