"""Class correlation, against NumPy's corrcoef on dense float64 probabilities."""
import numpy as np
import pytest

from mmtinyvit.apis import class_correlation
from mmtinyvit.apis.class_correlation import ClassCorrelation, compare_maps, correlated_pairs
from mmtinyvit.errors import UserError
from mmtinyvit.store import Record

CLASSES, TOPK, LEAST = 23, 4, 3


def make(seed: int, records: int = 60) -> tuple[Record, np.ndarray]:
    """Records of some of the classes, and the same as a dense matrix ``(M, C)``, 0 beyond the K."""
    rng = np.random.default_rng(seed)
    index = np.sort(np.stack([rng.choice(CLASSES - 3, TOPK, replace=False) for _ in range(records)]), axis=1)
    prob = rng.dirichlet(np.full(TOPK, 0.3), records) * 0.9 + 1e-6
    dense = np.zeros((records, CLASSES))
    np.put_along_axis(dense, index, prob, 1)
    return Record(index, np.log(prob).astype(np.float32), (1 - prob.sum(1)).astype(np.float32)), dense


def reference(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The correlation of all classes, 0 for those that are in fewer than LEAST records; and which are known."""
    known = (dense > 0).sum(0) >= LEAST
    with np.errstate(invalid='ignore', divide='ignore'):
        found = np.corrcoef(dense, rowvar=False)
    return np.where(known[:, None] & known, found, 0), known


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(class_correlation, '_ROWS', 5)  # several strips
    return [(ClassCorrelation(record, CLASSES, f'map {seed}', LEAST), dense)
            for seed, (record, dense) in ((seed, make(seed)) for seed in (0, 1))]


def test_a_map(pair):
    for found, dense in pair:
        expected, known = reference(dense)
        assert (found.known == known).all() and 0 < known.sum() < CLASSES
        assert np.allclose(found.matrix(), expected, atol=1e-6)
        chosen = found.most_frequent(6)
        assert len(chosen) == 6 and (np.diff(chosen) > 0).all()
        assert found.counts[chosen].min() >= np.sort(found.counts)[-6]
        assert np.allclose(found.matrix(chosen), expected[np.ix_(chosen, chosen)], atol=1e-6)
        pairs = [(i, j) for i in range(CLASSES) for j in range(i + 1, CLASSES) if known[i] and known[j]]
        best = sorted(pairs, key=lambda ij: -expected[ij])[:7]
        listed = correlated_pairs(found, 7)
        assert [row[:2] for row in listed] == best
        assert np.allclose([row[2] for row in listed], [expected[ij] for ij in best], atol=1e-6)
        assert len(correlated_pairs(found, 1000)) == len(pairs)


@pytest.mark.parametrize('among', [None, range(3, 17)])
def test_how_alike_maps_are(pair, among):
    maps = [found for found, _ in pair]
    (first, known), (other, others) = (reference(dense) for _, dense in pair)
    wanted = np.isin(np.arange(CLASSES), CLASSES if among is None else among) | (among is None)
    both = np.flatnonzero(known & others & wanted)
    apart = np.triu_indices(len(both), 1)
    expected = np.corrcoef(first[np.ix_(both, both)][apart], other[np.ix_(both, both)][apart])[0, 1]
    compared = compare_maps([*maps, maps[0]], among)
    assert compared.alike[0, 1] == compared.alike[1, 0] == pytest.approx(expected, abs=1e-6)
    assert np.allclose(np.diag(compared.alike), 1) and compared.alike[0, 2] == pytest.approx(1)
    assert compared.classes[0, 1] == len(both)
    own = np.flatnonzero(known & wanted)
    entries = first[np.ix_(own, own)][np.triu_indices(len(own), 1)]
    assert compared.strength[0] == pytest.approx(np.sqrt((entries**2).mean()), rel=1e-5)


def test_too_few_classes_in_common(pair):
    maps = [found for found, _ in pair]
    few = np.flatnonzero(maps[0].known & maps[1].known)[:class_correlation.LEAST_CLASSES]
    assert not np.isnan(compare_maps(maps, few).alike).any() and np.isnan(compare_maps(maps, few[1:]).alike).all()


def test_maps_that_say_nothing():
    record, _ = make(0)
    flat = ClassCorrelation(record.row(slice(0, 2)), CLASSES, 'flat')
    assert not flat.known.any() and flat.matrix(flat.most_frequent(5)).shape == (0, 0)
    compared = compare_maps([flat, ClassCorrelation(record, CLASSES)])
    assert np.isnan(compared.alike[0]).all() and compared.classes[0, 1] == 0 and compared.strength[0] == 0
    assert correlated_pairs(flat, 3) == []


def test_maps_of_other_classes():
    record, _ = make(0)
    with pytest.raises(UserError, match='teacher has 23 classes and student has 24: compare'):
        compare_maps([ClassCorrelation(record, CLASSES, 'teacher'), ClassCorrelation(record, 24, 'student')])
