"""The mean of several teachers, against dense targets in float64."""
import numpy as np
import pytest
import torch

from mmtinyvit.models.losses import sparse_soft_target_loss
from mmtinyvit.store import Record, StoreError, mix_logits
from mmtinyvit.store.record import check_weights


def record(rng, count: int, topk: int, num_classes: int, partner=None) -> Record:
    """The top K of random distributions, as float32."""
    prob = rng.dirichlet(np.full(num_classes, .3), count)
    index = np.sort(np.argsort(-prob, 1)[:, :topk], 1)
    kept = np.take_along_axis(prob, index, 1)
    tail = np.clip(1 - kept.sum(1), 0, 1) if topk < num_classes else np.zeros(count)
    return Record(index, np.log(kept).astype(np.float32), tail.astype(np.float32), partner)


def dense(record: Record, num_classes: int) -> np.ndarray:
    """``(n, C)`` float64: the recovered target."""
    rest = record.tail_mass.astype(np.float64) / max(num_classes - record.index.shape[1], 1)
    target = np.repeat(rest[:, None], num_classes, 1)
    np.put_along_axis(target, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
    return target


CASES = [((3, 5), 40), ((5, 5), 12), ((4, 6, 2), 12), ((12, 3), 12), ((6, 6), 12), ((7, 8), 12), ((12, 12), 12)]


@pytest.mark.parametrize(('topks', 'num_classes'), CASES)
def test_the_mean_is_exact(topks, num_classes):
    rng = np.random.default_rng(0)
    records = [record(rng, 50, topk, num_classes) for topk in topks]
    weights = check_weights([1 + i for i in range(len(topks))], len(topks))
    mixed = mix_logits(records, weights, num_classes)
    slots = min(sum(topks), num_classes)
    assert mixed.index.shape == mixed.log_prob.shape == (50, slots)
    assert (mixed.index.dtype, mixed.log_prob.dtype, mixed.tail_mass.dtype) == (np.int64, np.float32, np.float32)
    assert (np.diff(mixed.index) > 0).all() and mixed.index.min() >= 0 and mixed.index.max() < num_classes
    expected = sum(weight * dense(each, num_classes) for weight, each in zip(weights, records, strict=True))
    assert np.abs(dense(mixed, num_classes) - expected).max() < 1e-7
    assert np.abs(np.exp(mixed.log_prob.astype(np.float64)).sum(1) + mixed.tail_mass - 1).max() < 1e-6


@pytest.mark.parametrize('temperature', [1., 3.])
@pytest.mark.parametrize(('topks', 'num_classes'), CASES)
def test_the_loss_is_that_of_the_mean_target(topks, num_classes, temperature):
    rng = np.random.default_rng(1)
    records = [record(rng, 8, topk, num_classes) for topk in topks]
    weights = check_weights(None, len(topks))
    mixed = mix_logits(records, weights, num_classes)
    logits = torch.tensor(rng.normal(size=(8, num_classes)))
    target = torch.tensor(sum(w * dense(each, num_classes) for w, each in zip(weights, records, strict=True)))
    soft = (target.log() / temperature).softmax(1)
    expected = -(soft * (logits / temperature).log_softmax(1)).sum(1) * temperature**2
    ours = sparse_soft_target_loss(logits, mixed.to('cpu'), temperature)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_a_class_that_all_rule_out():
    one = Record(np.array([[2]]), np.zeros((1, 1), np.float32), np.zeros(1, np.float32), None)
    mixed = mix_logits([one, one], [.5, .5], 4)
    assert mixed.index.tolist() == [[0, 2]] and np.exp(mixed.log_prob).tolist() == [[0, 1]]
    loss = sparse_soft_target_loss(torch.zeros(1, 4), mixed.to('cpu'))
    assert torch.allclose(loss, torch.tensor([4.]).log())


def test_one_record_stays_as_it_is():
    one = record(np.random.default_rng(2), 5, 4, 20)
    mixed = mix_logits([one], [1.], 20)
    assert (mixed.index == one.index).all() and np.abs(mixed.log_prob - one.log_prob).max() < 1e-6


def test_partners_must_be_the_same():
    rng = np.random.default_rng(0)
    a, b = (record(rng, 2, 3, 9, np.array(partner, np.uint64)) for partner in ([1, 2], [1, 3]))
    assert mix_logits([a, a], [.5, .5], 9).partner_hash.tolist() == [1, 2]
    for other in (b, a._replace(partner_hash=None)):
        with pytest.raises(StoreError, match='different partners'):
            mix_logits([a, other], [.5, .5], 9)


@pytest.mark.parametrize(('weights', 'expected'), [(None, [.5, .5]), ([1, 3], [.25, .75]), ((.5, .5), [.5, .5])])
def test_weights_sum_to_one(weights, expected):
    assert check_weights(weights, 2) == expected


@pytest.mark.parametrize(('weights', 'names'), [([1], '1 weights for 2'), ([1, 0], 'positive'), ([1, -1], 'positive'),
                                                ([1, float('nan')], 'positive'), ([1, float('inf')], 'positive')])
def test_weights_that_are_none(weights, names):
    with pytest.raises(StoreError, match=names):
        check_weights(weights, 2)
