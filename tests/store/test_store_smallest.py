"""The codec ``smallest``: its bits, its bound, its reference view."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_teacher import dense, sparsify

from mmtinyvit.store import Record, make_codec
from mmtinyvit.store.codecs.root_levels import MAX_DIVERGENCE, RootLevels

TOPK, CLASSES = 20, 500


def views(num, overlap=0.97, num_classes=CLASSES, topk=TOPK, scale=3.0):
    """Two batches of records whose logits correlate."""
    one, other = (np.stack([np.random.default_rng((seed, i)).normal(size=num_classes) for i in range(num)])
                  for seed in (0, 1))
    logits = scale * np.stack([one, overlap * one + math.sqrt(1 - overlap**2) * other])
    log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return [sparsify(view, topk) for view in log_prob]


def target(record, num_classes):
    """``(n, C)`` float64: the distribution that a student learns from."""
    others = max(num_classes - record.index.shape[1], 1)
    dense = np.repeat(record.tail_mass.astype(np.float64)[:, None] / others, num_classes, 1)
    np.put_along_axis(dense, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
    return dense


def divergence(given, decoded, num_classes):
    p, q = (target(record, num_classes) for record in (given, decoded))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1)), 0).sum(1)


def lengths(records):
    return np.array([len(record.tobytes().rstrip(b'\0')) for record in records])


class BitReader:
    """Reads a record as the README says, with Python integers."""

    def __init__(self, data):
        self.bits = [byte >> i & 1 for byte in data for i in range(8)]
        self.at = 0

    def number(self, width):
        taken = self.bits[self.at:self.at + width]
        self.at += width
        return sum(bit << i for i, bit in enumerate(taken))

    def unary(self):
        start = self.at
        while not self.bits[self.at]:
            self.at += 1
        self.at += 1
        return self.at - 1 - start


def naive_decode(record, topk, num_classes, reference=None):
    """Listed classes, their levels, the step and the tail, one bit after another."""
    read = BitReader(record.tobytes())
    relative, step, code, gap_bits, floor, tail = (read.number(width) for width in (1, 5, 3, 4, 4, 10))
    count = read.number((topk - 1).bit_length()) + 1
    shared = []
    if relative:
        marks = [read.number(1) for _ in range(topk)]
        known = naive_decode(reference, topk, num_classes)[0]
        shared = [known[i] for i, mark in enumerate(marks) if mark]
    low = [read.number(gap_bits) for _ in range(count - len(shared))]
    classes, last = [], -1
    for rest in low:
        last += (read.unary() << gap_bits) + rest + 1
        classes.append(last)
    unary = [read.unary() for _ in range(count)]
    levels = []
    for first in unary:
        order = code % 4
        if code < 4:
            levels.append((first << order) + read.number(order) + floor)
        else:
            levels.append((2**first - 1 << order) + read.number(first + order) + floor)
    assert not any(read.bits[read.at:])
    scale = tail / 1023
    mass = 2 * scale**2 if scale <= 0.5 else 1 - 2 * (1 - scale)**2
    return sorted(shared + classes), levels, step, mass


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_bits_follow_the_description(data):
    num_classes = data.draw(st.integers(1, 65536) | st.integers(1, 40))
    topk = data.draw(st.integers(1, min(num_classes, 130)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codec, reference = make_codec('smallest', topk, num_classes), None
    pool = rng.choice(num_classes, min(num_classes, topk + data.draw(st.integers(0, topk))), replace=False)
    for _ in range(2):
        log_prob = np.sort(rng.normal(size=(1, topk)) * data.draw(st.floats(0, 12)))[:, ::-1]
        tail = data.draw(st.floats(0, 0.99)) if topk < num_classes else 0.0
        log_prob += math.log(1 - tail) - np.log(np.exp(log_prob).sum())
        index = rng.permutation(pool)[None, :topk]
        record = Record(index, log_prob.astype(np.float32), np.array([tail], np.float32))
        packed = codec.encode(record, reference)
        classes, levels, _, mass = naive_decode(packed[0], topk, num_classes, reference)
        decoded = codec.decode(packed, reference).row(0)
        listed = np.isin(decoded.index, classes)
        weights = [max(level, 0.3)**2 for level in levels]
        assert listed.sum() == len(classes) == len(set(classes)) and set(classes) <= set(index[0].tolist())
        np.testing.assert_allclose(np.exp(decoded.log_prob[listed].astype(np.float64)),
                                   np.array(weights) * (1 - mass) / sum(weights), rtol=2e-6)
        total = np.exp(decoded.log_prob.astype(np.float64)).sum() + decoded.tail_mass
        assert abs(total - 1) < 1e-5 and (np.diff(decoded.index) > 0).all()
        assert classes[int(np.argmax(levels))] == index[0, 0] and levels.count(max(levels)) == 1
        reference = packed if reference is None else reference


def test_exact_bytes():
    codec = make_codec('smallest', 3, 20)
    index, log_prob = np.array([[13, 2, 7]]), np.log(np.array([[0.25, 0.5, 0.125]], np.float32))
    packed = codec.encode(Record(index, log_prob, np.array([0.125], np.float32)))
    classes, levels, step, mass = naive_decode(packed[0], 3, 20)
    assert classes == [2, 7, 13] and abs(mass - 0.125) < 1e-3
    width = RootLevels(3).widths[step]
    assert levels == [round(math.sqrt(p) / width) for p in (0.5, 0.125, 0.25)]
    assert packed.tobytes().rstrip(b'\0').hex() == '66a20092926c'


@pytest.mark.parametrize('topk, num_classes', [(1, 1), (1, 9), (3, 20), (10, 1000), (100, 21841), (300, 300)])
@pytest.mark.parametrize('scale', [0.1, 1, 4, 16])
def test_no_record_exceeds_the_bound_and_the_top_1_stays(topk, num_classes, scale):
    record = sparsify(dense(0, range(8), num_classes, scale), topk)
    codec = make_codec('smallest', topk, num_classes)
    decoded = codec.decode(codec.encode(record))
    assert divergence(record, decoded, num_classes).max() < 1.001 * MAX_DIVERGENCE + 1e-7
    assert (decoded.index[np.arange(8), decoded.log_prob.argmax(1)] == record.index[:, 0]).all()


@pytest.mark.parametrize('topk', [1, 2, 10, 100, 1000])
def test_the_narrowest_step_keeps_the_bound_where_each_root_lies_between_two_levels(topk):
    """The worst that can be: every root half a step off, half of them up and half of them down."""
    roots = RootLevels(topk)
    level = max(1, int(1 / math.sqrt(topk) / roots.widths[-1]))
    prob = ((level + 0.499) * roots.widths[-1])**2 * np.ones((1, topk))
    prob[:, ::2] = ((level + 0.501) * roots.widths[-1])**2
    prob[:, 0] *= 1.0001
    prob /= prob.sum()
    _, levels = roots.choose(prob, np.ones_like(prob, bool), np.zeros(1, int), np.zeros(1))
    found = np.where(levels > 0, levels, 0.3)**2.0
    assert (prob * np.log(prob / (found / found.sum() * prob.sum()))).sum() < 1.001 * MAX_DIVERGENCE
    assert levels.sum() <= roots.max_sum and levels.max() <= roots.max_level


def near_ties(topk, num, seed):
    """Records whose first 1 to K classes are equal but for a factor of up to 1.3, in the hope of the worst rounding."""
    rng = np.random.default_rng(seed)
    tied = np.arange(topk) < rng.integers(1, topk + 1, (num, 1))
    rest = np.where(rng.random((num, 1)) < 0.5, rng.random((num, topk))**3, 10.0**rng.uniform(-6, 0, (num, topk)))
    prob = np.where(tied, 1 + 10.0**rng.uniform(-6, -0.5, (num, 1)) * rng.random((num, topk)), rest)
    tail = np.where(rng.random(num) < 0.5, 0, 10.0**rng.uniform(-6, -0.2, num))
    return prob / prob.sum(1, keepdims=True) * (1 - tail)[:, None], tail


@pytest.mark.parametrize('topk', range(1, 13))
def test_near_ties_at_the_top_do_not_exceed_the_bound(topk):
    """Random near ties, and those of them that come closest to the bound changed step by step towards it."""
    codec, num_classes, rng = make_codec('smallest', topk, 40), 40, np.random.default_rng(topk)

    def lost(prob, tail):
        record = Record(np.tile(np.arange(topk), (len(prob), 1)), np.log(prob).astype(np.float32),
                        tail.astype(np.float32))
        decoded = codec.decode(codec.encode(record))
        assert (decoded.index[np.arange(len(prob)), decoded.log_prob.argmax(1)] == record.log_prob.argmax(1)).all()
        return divergence(record, decoded, num_classes)

    prob, tail = near_ties(topk, 4000, topk)
    found = lost(prob, tail)
    assert found.max() < 1.001 * MAX_DIVERGENCE
    worst = found.argsort()[-200:]
    prob, tail, found = prob[worst], tail[worst], found[worst]
    for _ in range(20):
        moved = prob * np.exp(rng.normal(size=prob.shape) * 10.0**rng.uniform(-5, -1, (len(prob), 1)))
        moved *= ((1 - tail) / moved.sum(1))[:, None]
        now = lost(moved, tail)
        closer = now > found
        prob[closer], found[closer] = moved[closer], now[closer]
    assert found.max() < 1.001 * MAX_DIVERGENCE


def test_relative_records_are_shorter_and_say_the_same():
    first, other = views(60)
    codec = make_codec('smallest', TOPK, CLASSES)
    reference = codec.encode(first)
    alone, relative = codec.encode(other), codec.encode(other, reference)
    assert (relative[:, 0] & 1).all() and not (alone[:, 0] & 1).any()
    assert lengths(relative).mean() < 0.8 * lengths(alone).mean()
    for a, b in zip(codec.decode(alone), codec.decode(relative, reference), strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ValueError, match='a reference that is not there'):
        codec.decode(relative)


def test_unlike_records_are_coded_by_themselves():
    first, other = views(40, overlap=0.0)
    codec = make_codec('smallest', TOPK, CLASSES)
    reference = codec.encode(first)
    relative = codec.encode(other, reference)
    assert (lengths(relative) <= lengths(codec.encode(other))).all()
    assert not (relative[:, 0] & 1).all()
    assert np.array_equal(codec.decode(relative, reference).index, np.sort(other.index, 1))


def test_a_batch_does_not_matter_also_with_references():
    first, other = views(50)
    codec, rows = make_codec('smallest', TOPK, CLASSES), [slice(i, i + 1) for i in range(50)]
    reference = codec.encode(first)
    whole = codec.encode(other, reference)
    assert whole.tobytes() == b''.join(codec.encode(other.row(row), reference[row]).tobytes() for row in rows)
    single = Record.concat([codec.decode(whole[row], reference[row]) for row in rows])
    assert all(np.array_equal(a, b) for a, b in zip(codec.decode(whole, reference), single, strict=True))


def test_entries_that_say_nothing_are_left_out_and_the_target_stays():
    """Classes as probable as those of the tail are on average: the loss cannot tell whether they are listed."""
    index, log_prob, tail, _ = sparsify(dense(0, range(30), CLASSES), TOPK)
    kept = 7
    rest = tail.astype(np.float64) + np.exp(log_prob[:, kept:].astype(np.float64)).sum(1)
    share = rest / (CLASSES - kept)
    log_prob[:, kept:] = np.log(share)[:, None]
    record = Record(index, log_prob, (share * (CLASSES - TOPK)).astype(np.float32))
    codec = make_codec('smallest', TOPK, CLASSES)
    packed, longer = codec.encode(record), codec.encode(sparsify(dense(0, range(30), CLASSES), TOPK))
    assert lengths(packed).mean() < 0.6 * lengths(longer).mean()
    decoded = codec.decode(packed)
    assert (np.diff(decoded.index) > 0).all() and decoded.index.shape == (30, TOPK)
    assert divergence(record, decoded, CLASSES).max() < 1.001 * MAX_DIVERGENCE
    for row in range(30):
        found = decoded.row(row)
        assert set(index[row, :kept]) <= set(found.index)
        fillers = ~np.isin(found.index, index[row, :kept])
        np.testing.assert_allclose(np.exp(found.log_prob[fillers]), found.tail_mass / (CLASSES - TOPK), rtol=1e-5)


def test_a_uniform_teacher_keeps_its_top_1():
    index, log_prob = np.arange(10)[None, ::-1], np.full((1, 10), -math.log(1000), np.float32)
    codec = make_codec('smallest', 10, 1000)
    found = codec.decode(codec.encode(Record(index, log_prob, np.array([0.99], np.float32)))).row(0)
    assert found.index[found.log_prob.argmax()] == 9 and np.sort(found.log_prob)[-2] < found.log_prob.max()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([(1, 1), (3, 20), (10, 1000), (40, 65536)]), st.integers(0, 2**32), st.booleans())
def test_changed_bits_decode_or_are_refused(size, seed, with_reference):
    codec, rng = make_codec('smallest', *size), np.random.default_rng(seed)
    record = sparsify(dense(seed % 7, range(5), min(size[1], 2000)), size[0])
    reference = codec.encode(record)
    packed = codec.encode(record, reference) if with_reference else reference.copy()
    for row in packed:
        for bit in rng.integers(0, 8 * len(row), rng.integers(1, 9)):
            row[bit // 8] ^= 1 << bit % 8
    try:
        index, log_prob, tail, _ = codec.decode(packed, reference)
    except ValueError:
        return
    assert index.shape == log_prob.shape == (5, size[0]) and 0 <= index.min() and index.max() < size[1]
    assert (np.diff(index) > 0).all() and not np.isnan(log_prob).any() and (tail >= 0).all()
