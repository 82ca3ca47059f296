"""What `benchmarks/contraction.py` says of its numbers."""
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

sys.path.append(str(Path(__file__).resolve().parents[2] / 'benchmarks'))
from contraction_tables import correlations, interval, noise, verdict  # noqa: E402

ARMS = [dict(arm='contraction', mean=70., spread=0.5, images_per_s=[500., 480.]),
        dict(arm='hand-made', mean=75., spread=0.5, images_per_s=[900., 900.]),  # is shown, and not part of the aim
        dict(arm='uniform', mean=68., spread=1., images_per_s=[400., 400.]),
        dict(arm='random', mean=67., spread=0.2, images_per_s=[500., 400.])]


@pytest.mark.parametrize('arm, change, sentence', [
    (0, {}, 'The aim is met: +2.0 points over uniform at 1.23 times its speed (1.20 to 1.25), +3.0 points over random '
            'at 1.10 times its speed (1.00 to 1.20); the largest spread of seeds is 1.0 points.'),
    (0, dict(mean=68.9), 'The aim is not met: +0.9 points over uniform'),
    (2, dict(spread=2.5), 'The aim is not met: +2.0 points over uniform'),
    (3, dict(images_per_s=[505., 485.]), 'The aim is met: +2.0 points over uniform'),  # 1 %, which no clock tells
    (3, dict(images_per_s=[600., 475.]), 'The aim is not met: +2.0 points over uniform'),
])
def test_the_aim(arm, change, sentence):
    assert sentence in verdict([each | change if i == arm else each for i, each in enumerate(ARMS)])


def test_agreement_is_1_whichever_way_a_number_is_better():
    rows = [{'scratch 1': 3. - i, 'scratch 2': 2. - i, 'inherited 1': float(i), 'inherited 2': 1., 'top1': 50. + i}
            for i in range(4)]
    found = dict(correlations(rows, [1, 2]))
    assert found['scratch 1 and long training'] == found['scratch 1 and scratch 2'] == pytest.approx(1)
    assert found['inherited 1 and scratch 1'] == found['inherited 1 and long training'] == pytest.approx(-1)
    assert math.isnan(found['inherited 2 and long training'])


def test_the_interval_is_that_of_simulated_pairs():
    """Of many samples of 12 pairs with a known correlation, 95 in 100 have the true one within."""
    rng, true = np.random.default_rng(0), 0.6
    normal = 2 * math.sin(math.pi / 6 * true)  # Pearson's correlation of normal pairs with this rank correlation
    inside = 0
    for _ in range(800):
        a = rng.standard_normal(12)
        b = normal * a + math.sqrt(1 - normal**2) * rng.standard_normal(12)
        low, high = interval(float(spearmanr(a, b).statistic), 12)
        inside += low <= true <= high
    assert 0.92 < inside / 800 < 0.98
    assert interval(1., 12)[1] == pytest.approx(1) and interval(math.nan, 12) == interval(0.5, 3) == (-1, 1)


def test_the_ceiling_is_what_the_true_ranking_reaches():
    rng = np.random.default_rng(0)
    true = rng.standard_normal(2000)
    seen = true + 0.5 * rng.standard_normal(2000)
    found = noise([dict(spread=0.5)], [dict(top1=top1) for top1 in seen])
    assert found['ceiling'] == pytest.approx(float(np.corrcoef(true, seen)[0, 1]), abs=0.02)
    assert noise([dict(spread=0.5)], [dict(top1=70.), dict(top1=70.1)])['ceiling'] == 0
