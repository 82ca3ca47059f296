"""Records of a kept mass and of drawn classes: what they say, and that a Runner saves and checks them."""
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, contents, saving

from mmtinyvit.engine.record_rule import RecordRule, draw_entries, keep_entries, sparsify
from mmtinyvit.errors import UserError
from mmtinyvit.models.losses import sparse_soft_target_loss
from mmtinyvit.store import LogitStore, Record


def target(record, num_classes):
    """``(n, C)`` float64: what a student learns from."""
    index, log_prob, tail, _ = record
    rest = tail.astype(np.float64) / max(num_classes - index.shape[1], 1)
    dense = np.repeat(rest[:, None], num_classes, 1)
    np.put_along_axis(dense, index.astype(np.int64), np.exp(log_prob.astype(np.float64)), 1)
    return dense


def some_logits(num=6, num_classes=40):
    return 2 * torch.randn(num, num_classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('mass', [0.1, 0.5, 0.9, 0.999])
def test_a_kept_mass_is_the_target_of_a_shorter_record(mass):
    logits = some_logits()
    kept = keep_entries(sparsify(logits, 10), 40, mass)
    assert [a.dtype for a in kept[:3]] == [np.int32, np.float32, np.float32]
    prob = logits.double().softmax(1)
    for row in range(6):
        ordered = prob[row].sort(descending=True)
        number = min(10, 1 + int((ordered.values.cumsum(0) < mass).sum()))
        shorter = sparsify(logits[row:row + 1], number)
        expected = target(shorter, 40)
        one = Record(*(a[row:row + 1] for a in kept[:3]))
        np.testing.assert_allclose(target(one, 40), expected, rtol=1e-5, atol=1e-8)
        student = torch.randn(1, 40, dtype=torch.float64)
        losses = [sparse_soft_target_loss(student, record.to('cpu')) for record in (one, shorter)]
        assert abs(losses[0] - losses[1]) < 1e-5


def test_the_device_does_not_matter(device):
    """The same classes in the same order; so the bytes of a shard are nearly always those that a CPU makes."""
    logits = some_logits(50)
    expected, found = (RecordRule(10)(each, 0, 0, [str(i) for i in range(50)]) for each in (logits, logits.to(device)))
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-5)
    np.testing.assert_allclose(found.tail_mass, expected.tail_mass, atol=1e-6)


@pytest.mark.parametrize('power, bias', [(1.0, 0.0), (0.7, 0.01)])
def test_drawn_records_are_right_on_average_and_top_k_is_not(power, bias):
    logits, draws, num = some_logits(1), 8, 6000
    exact = logits.double().softmax(1).numpy()
    drawn = draw_entries(logits.expand(num, -1), range(num), draws, power, draws)
    dense = target(drawn, 40)
    assert np.abs(dense.sum(1) - 1).max() < 1e-5 and (drawn.tail_mass == 0).all()
    error = 5 * dense.std(0) / np.sqrt(num) + 1e-4 + bias
    assert (np.abs(dense.mean(0) - exact) < error).all()
    assert (np.abs(target(sparsify(logits, draws), 40) - exact) > error).any()


def test_draws_are_counts_in_order_without_repetition():
    logits, draws = some_logits(50), 20
    index, log_prob, *_ = draw_entries(logits, range(50), draws, 1.0, 25)
    assert index.shape == (50, 25) and (np.sort(index, 1)[:, 1:] > np.sort(index, 1)[:, :-1]).all()
    assert index.min() >= 0 and index.max() < 40
    counts = np.exp(log_prob.astype(np.float64)) * draws
    assert np.abs(counts - np.round(counts)).max() < 1e-5 and (np.round(counts).sum(1) == draws).all()
    assert (np.diff(log_prob, axis=1) <= 1e-6).all()
    prob = logits.softmax(1).numpy()
    for row in range(50):  # of the classes drawn equally often, the most probable stands first
        first = np.flatnonzero(counts[row] > counts[row, 0] - 0.5)
        assert index[row, 0] == index[row, first][prob[row, index[row, first]].argmax()]


def test_draws_depend_on_the_name_alone():
    logits, keys = some_logits(6), list('abcdef')
    rule = RecordRule(10, sampling=dict(draws=10))
    whole = rule(logits, 3, 5, keys)
    for row in range(6):
        one = rule(logits[row:row + 1], 3, 5, keys[row:row + 1])
        for ours, theirs in zip(one.row(0)[:3], whole.row(row)[:3], strict=True):
            assert np.array_equal(ours, theirs)
    assert not np.array_equal(rule(logits, 3, 6, keys)[0], whole[0])
    assert not np.array_equal(rule(logits, 4, 5, keys)[0], whole[0])


@pytest.mark.parametrize('rule, words', [
    (dict(keep_mass=1.5), 'keep_mass=1.5 must lie between 0 and 1'),
    (dict(keep_mass=0.9, sampling=dict(draws=3)), 'give one of them'),
    (dict(sampling=dict(draws=6)), '6 draws may name as many classes, and a record has topk=5'),
    (dict(sampling=dict(draws=0)), '0 draws may name'), (dict(sampling=dict(power=1)), 'must have draws'),
    (dict(sampling=dict(draws=3, seed=1)), 'must have draws, and may have power'),
    (dict(sampling=dict(draws=3, power=0)), 'power=0.0 of sampling must lie above 0'),
    (dict(keep_mass=0.9, codec='compact'), "keep_mass=0.9 saves no byte with codec='compact'"),
    (dict(codec='smallest', views=(1, 3)), 'codes its views relative to view 0, which is not complete'),
    (dict(reference_view=0), "reference_view must be left out with codec 'compact'")])
def test_impossible_rules(tmp_path, photos, teacher_checkpoint, rule, words):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, **rule)
    with pytest.raises(UserError, match=words):
        Runner.from_cfg(cfg).test()
    assert not (tmp_path / 'store').exists()


@pytest.mark.parametrize('rule, mean_kl', [
    (dict(sampling=dict(draws=4, power=0.8)), 1e-3), (dict(keep_mass=0.8, codec='smallest'), 1e-3),
    (dict(codec='smallest', reference_view=1), 1e-3)], ids=['sampling', 'keep_mass', 'smallest'])
def test_the_teacher_asked_again_agrees(tmp_path, photos, teacher_checkpoint, rule, mean_kl):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, **rule)
    summary = Runner.from_cfg(cfg).test()
    store = LogitStore(tmp_path / 'store')
    assert summary['samples'] == 28 and summary['bytes_per_view'] == store.bytes_per_view
    assert not any(finding.problem for finding in store.verify())
    cfg.test_cfg.update(type='mmtinyvit.CheckLogitsLoop', num_records=28)
    checked = Runner.from_cfg(cfg).test()
    assert checked['records'] == 28 and checked['mean_kl'] < mean_kl and checked['top1_changed'] == 0
    options = {name: rule[name] for name in ('sampling', 'keep_mass') if name in rule}
    assert store.manifest.fingerprints.get('records', {}) == options
    if options:
        for name in options:
            del cfg.test_cfg[name]
        with pytest.raises(UserError, match='records.* != .absent'):
            Runner.from_cfg(cfg).test()


def test_workers_and_interruptions_do_not_change_relative_views(tmp_path, photos, teacher_checkpoint):
    def save(path, **loop):
        cfg = saving(photos, path, tmp_path / 'work', teacher_checkpoint, codec='smallest', **loop)
        return Runner.from_cfg(cfg).test()['samples']

    assert save(tmp_path / 'a', views=(0, 3)) == 42
    assert save(tmp_path / 'b', views=(0, 1), workers=1) == 14 and save(tmp_path / 'b', views=(1, 3)) == 28
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')
    (tmp_path / 'b/view-0000/shard-00002.logits').unlink()
    with pytest.raises(UserError, match='relative to view 0, which is not complete: save or copy view 0 first'):
        save(tmp_path / 'b', views=(1, 4))
    assert save(tmp_path / 'b', views=(0, 3)) == 4 and contents(tmp_path / 'a') == contents(tmp_path / 'b')
    record = LogitStore(tmp_path / 'a').read_positions(2, np.arange(14))
    assert record.index.shape == (14, TOPK) and record.index.max() < CLASSES
