"""Mixing on the device: the same pixels for any batch, partners that are the store's, and seeds that agree."""
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from tiny_flow import NORM

from mmtinyvit.datasets import ViewName, draw_mix, partners_of_view
from mmtinyvit.errors import UserError
from mmtinyvit.models.data_preprocessors import ReplayDataPreprocessor, SeededMixing
from mmtinyvit.store import key_hash

NUM = 17  # odd: one sample is its own partner
KEYS = [f'photo_{i}.png' for i in range(NUM)]
ALPHAS = dict(mixup_alpha=0.8, cutmix_alpha=1., switch_prob=0.5)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (NUM, 3, 16, 24)).astype(np.uint8))


def pairs(view: int, seed: int = 0) -> list[tuple[int, int]]:
    """The pairs of a view in a shuffled order, each once; the two of a pair in either order."""
    partners = partners_of_view(NUM, 5, view)
    found = [(i, int(j)) for i, j in enumerate(partners) if i <= j]
    rng = np.random.default_rng(seed)
    rng.shuffle(found)
    return [(b, a) if rng.random() < 0.5 else (a, b) for a, b in found]


def names(indices: list[int], view: int = 0) -> list[ViewName]:
    return [ViewName(5, view, KEYS[i]) for i in indices]


def mix_all(view: int, batch_pairs: int, seed: int, device: str = 'cpu') -> dict[int, tuple[bytes, float]]:
    """The mixed pixels and shares of all samples by index, made in batches."""
    mixing, seen = SeededMixing(**ALPHAS), {}
    order = pairs(view, seed)
    for start in range(0, len(order), batch_pairs):
        indices = [i for pair in order[start:start + batch_pairs] for i in pair]
        mixed, keep = mixing(IMAGES[indices].float().to(device), names(indices, view))
        seen |= {i: (image.cpu().numpy().tobytes(), float(k)) for i, image, k in zip(indices, mixed, keep, strict=True)}
    return seen


@pytest.mark.parametrize('view', [0, 1])
def test_mixed_pixels_do_not_depend_on_the_batch(view):
    reference = mix_all(view, 1, seed=0)
    assert len(reference) == NUM
    for batch_pairs in (2, 3, 9):
        assert mix_all(view, batch_pairs, seed=batch_pairs) == reference


def test_mixing_does_what_the_draw_says(device):
    """Every pixel against arithmetic written out here; both kinds of mixing occur."""
    kinds = set()
    for view in range(3):
        seen = mix_all(view, 4, seed=1, device=device)
        for a, b in pairs(view):
            draw = draw_mix(KEYS[a], KEYS[b], 5, view, 16, 24, **ALPHAS)
            for one, other in ((a, b), (b, a)):
                x, y = IMAGES[one].double(), IMAGES[other].double()
                if a == b:
                    expected, share = x, 1.
                elif draw.box is None:
                    expected, share = x * draw.keep + y * (1 - draw.keep), draw.keep
                else:
                    top, bottom, left, right = draw.box
                    expected, share = x.clone(), draw.keep
                    expected[:, top:bottom, left:right] = y[:, top:bottom, left:right]
                pixels, keep = seen[one]
                got = torch.frombuffer(bytearray(pixels), dtype=torch.float32).view(3, 16, 24)
                assert torch.allclose(got.double(), expected, atol=1e-3) and keep == pytest.approx(share, abs=1e-6)
                kinds.add('own' if a == b else 'cutmix' if draw.box else 'mixup')
    assert kinds == {'own', 'cutmix', 'mixup'}


def test_the_inputs_are_left_alone():
    images = IMAGES[:2].float()
    SeededMixing(**ALPHAS)(images, names([0, 1]))
    assert torch.equal(images, IMAGES[:2].float())


def test_an_odd_batch():
    with pytest.raises(UserError, match='set an even batch_size'):
        SeededMixing()(IMAGES[:3].float(), names([0, 1, 2]))


# ---------------------------------------------------------------- the data preprocessor
def packed(indices: list[int], view: int = 0, partner: dict | None = None) -> dict:
    """A collated batch."""
    found = []
    for i in indices:
        sample = DataSample(metainfo=dict(base_seed=5, view=view, sample_key=KEYS[i])).set_gt_label(i % 4)
        if partner is not None:
            sample.set_field(np.uint64(partner[i]), 'teacher_partner')
        found.append(sample)
    return dict(inputs=IMAGES[indices], data_samples=found)


def preprocessor(**kwargs) -> ReplayDataPreprocessor:
    init_default_scope('mmpretrain')
    return MODELS.build(dict(type='mmtinyvit.ReplayDataPreprocessor', **NORM, **kwargs))


def test_training_mixes_images_and_labels():
    replay = preprocessor(mixing=ALPHAS, num_classes=4)
    a, b = next(pair for pair in pairs(0) if pair[0] % 4 != pair[1] % 4)
    data = replay(packed([a, b]), training=True)
    mixed, keep = SeededMixing(**ALPHAS)(IMAGES[[a, b]].float(), names([a, b]))
    assert torch.equal(data['inputs'], (mixed.flip(1) - replay.mean) / replay.std)
    for sample, own, other in zip(data['data_samples'], (a, b), (b, a), strict=True):
        score = torch.zeros(4)
        score[own % 4], score[other % 4] = keep[0], 1 - keep[0]
        assert torch.allclose(sample.gt_score, score)


def test_testing_does_not_mix():
    replay = preprocessor(mixing=ALPHAS, num_classes=4)
    data = replay(packed([0, 1, 2]), training=False)
    assert torch.equal(data['inputs'], (IMAGES[:3].flip(1).float() - replay.mean) / replay.std)


def test_base_seed_is_that_of_the_views():
    mixed = [preprocessor(mixing=ALPHAS | own)(packed([0, 1]), training=True)['inputs']
             for own in ({}, dict(base_seed=5))]
    assert torch.equal(*mixed)
    with pytest.raises(UserError, match='base_seed=8 of mixing is not the 5 of SeededAugment: remove it'):
        preprocessor(mixing=ALPHAS | dict(base_seed=8))(packed([0, 1]), training=True)


def test_views_without_names_are_refused():
    data = packed([0, 1])
    del data['data_samples'][1].base_seed
    with pytest.raises(UserError, match='do not say which views they are.*PackViewInputs'):
        preprocessor(mixing=ALPHAS)(data, training=True)


def test_labels_are_not_needed_to_mix():
    replay = preprocessor(mixing=ALPHAS)
    data = packed([0, 1])
    for sample in data['data_samples']:
        del sample.gt_label
    assert replay(data, training=True)['inputs'].shape == (2, 3, 16, 24)


def test_the_partners_of_the_store_are_accepted():
    replay = preprocessor(mixing=ALPHAS)
    own = {0: key_hash(KEYS[3]), 3: key_hash(KEYS[0])}
    assert replay(packed([0, 3], partner=own), training=True)['inputs'].shape == (2, 3, 16, 24)


@pytest.mark.parametrize('indices, said', [([0, 3, 1, 2], f'view 0 of {KEYS[1]}.*PairedSampler'),
                                           ([0, 3, 1], 'batch of 3 images .* set an even batch_size')],
                         ids=['another partner', 'no partner'])
def test_another_partner_than_the_stores(indices, said):
    replay = preprocessor(mixing=ALPHAS)
    hashes = {i: key_hash(KEYS[{0: 3, 3: 0, 1: 4, 2: 5}[i]]) for i in indices}
    with pytest.raises(UserError, match=said):
        replay(packed(indices, partner=hashes), training=True)


def test_ambient_batch_augments_are_refused():
    with pytest.raises(UserError, match='batch_augments cannot be replayed'):
        preprocessor(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
