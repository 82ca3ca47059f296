import numpy as np
import pytest

from mmtinyvit.datasets.mixing import draw_mix, pairs_of_view, partners_of_view

BOTH = dict(mixup_alpha=0.8, cutmix_alpha=1., switch_prob=0.5)


@pytest.mark.parametrize('num', [1, 2, 3, 10, 101])
def test_partners_are_an_involution(num):
    partners = partners_of_view(num, 3, 5)
    assert sorted(partners.tolist()) == list(range(num))
    assert (partners[partners] == np.arange(num)).all()
    assert (partners == np.arange(num)).sum() == num % 2


def test_pairs_golden():
    assert pairs_of_view(9, 3, 0).tolist() == [[5, 7], [2, 3], [4, 8], [1, 0], [6, 6]]
    assert partners_of_view(9, 3, 1).tolist() == [5, 6, 7, 8, 4, 0, 1, 2, 3]


def test_partners_change_with_view_and_seed():
    each = [partners_of_view(100, seed, view).tolist() for seed in (0, 1) for view in (0, 1)]
    assert all(a != b for i, a in enumerate(each) for b in each[:i])


@pytest.mark.parametrize('key, keep, box', [
    ('bc', 0.49283854166666663, (13, 32, 0, 41)),
    ('bd', 0.31882063511652, None),
    ('be', 0.923828125, (19, 28, 4, 17)),
    ('bf', 0.8746383555411971, None),
])
def test_mix_golden(key, keep, box):
    mix = draw_mix('a', key, 0, 0, 32, 48, **BOTH)
    assert mix.box == box and mix.keep == pytest.approx(keep, abs=1e-12)
    assert draw_mix(key, 'a', 0, 0, 32, 48, **BOTH) == mix


def draw_many(num: int = 2000, **alphas) -> list:
    return [draw_mix('a', f'{i}', 1, 0, 32, 48, **BOTH | alphas) for i in range(num)]


def test_cutmix_keeps_the_share_outside_the_box():
    mixes = [mix for mix in draw_many(mixup_alpha=0) if mix.box]
    assert len(mixes) == 2000
    for mix in mixes:
        top, bottom, left, right = mix.box
        inside = np.zeros((32, 48), bool)
        inside[top:bottom, left:right] = True
        assert mix.keep == pytest.approx(1 - inside.mean(), abs=1e-12)


def test_draws_follow_their_distributions():
    """Means of Beta(a, a) and their variances, 1 / (4 (2a + 1)), and the share of CutMix."""
    mixup = np.array([mix.keep for mix in draw_many(cutmix_alpha=0)])
    assert all(mix.box is None for mix in draw_many(10, cutmix_alpha=0))
    assert mixup.mean() == pytest.approx(0.5, abs=0.03) and mixup.var() == pytest.approx(1 / (4 * 2.6), rel=0.06)
    share = np.mean([mix.box is not None for mix in draw_many(switch_prob=0.3)])
    assert share == pytest.approx(0.3, abs=0.04)


def test_no_mixing_at_all():
    assert draw_mix('a', 'b', 0, 0, 8, 8, mixup_alpha=0, cutmix_alpha=0, switch_prob=0.5) == (1., None)
