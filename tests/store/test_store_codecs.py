import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_teacher import dense, sparsify

from mmtinyvit.store import Record, codec_names, make_codec
from mmtinyvit.store.codecs.compact import level_depths

GOLDEN = Path(__file__).parent / 'golden/codecs.npz'  # written by the first release of each codec
SIZES = [(1, 1), (1, 2), (2, 2), (3, 20), (7, 7), (10, 1000), (100, 21841), (1, 65536), (9, 65536), (300, 300)]


def batch(topk, num_classes, num=12, scale=3.0):
    return sparsify(dense(0, range(num), num_classes, scale), topk)


def divergence(record, decoded):
    """KL of the decoded top-K and tail against the given ones, per record, in float64 and entry by entry."""
    result = []
    for row in range(len(record.index)):
        given_p, found_p = ({int(i): math.exp(v) for i, v in zip(index, log_prob, strict=True)} | {'tail': float(tail)}
                            for index, log_prob, tail, _ in (record.row(row), decoded.row(row)))
        scale, found_scale = sum(given_p.values()), sum(found_p.values())
        result.append(sum(p / scale * math.log(p / scale / (found_p[i] / found_scale))
                          for i, p in given_p.items() if p > 0))
    return np.array(result)


def test_exact_bytes_of_the_exact_codec():
    codec = make_codec('exact', 2, 300)
    index, log_prob = np.array([[259, 2]]), np.log(np.array([[0.5, 0.375]], np.float32))
    packed = codec.encode(Record(index, log_prob, np.array([0.125], np.float32)))
    # class 2, class 259, half 0.375 = 0x3600, half 0.5 = 0x3800, half 0.125 = 0x3000
    assert packed.tobytes().hex(' ', 2) == '0200 0301 0036 0038 0030'


def test_exact_bytes_of_the_compact_codec():
    codec = make_codec('compact', 3, 20)
    index, log_prob = np.array([[13, 2, 7]]), np.log(np.array([[0.25, 0.5, 0.125]], np.float32))
    packed = codec.encode(Record(index, log_prob, np.array([0.125], np.float32)))
    # ascending: 2, 7, 13; the low 2 bits are stored as they are, the rest (0, 1, 3) in unary over 3 + (19 >> 2) bits
    high = '1010010'
    low = '011' + '110'  # the planes of 2 = 0b10, 7 = 0b..11, 13 = 0b..01
    # Level 0 is the top-1. For K = 3 a step is 23/1024 nat down to ln 2: 0.25 lies ln 2 = 709.8/1024 below, in step 31.
    # From there steps grow with exp(half the depth): 0.125 lies ln 4 = 1419.6/1024 below, between the middles 1400/1024
    # of step 57 and 1432/1024 of step 58, and nearer to the latter.
    levels = [0, level_of(math.log(4), 3), level_of(math.log(2), 3)]
    assert levels == [0, 58, 31]
    planes = ''.join(str(level >> bit & 1) for bit in range(7) for level in levels)
    tail = ''.join(str(1024 >> bit & 1) for bit in range(12))  # sqrt(0.125 / 2) = 1/4 of 4095 steps
    bits = high + low + planes + tail
    expected = int(bits[::-1], 2).to_bytes(6, 'little')
    assert packed.tobytes() == expected
    assert packed.tobytes().hex() == '258fa62d0010'


@pytest.mark.parametrize('name', ['exact', 'compact', 'smallest', 'relative'])
@pytest.mark.parametrize('form, topk, num_classes', [('5_of_40', 5, 40), ('100_of_21841', 100, 21841)])
def test_bytes_and_values_are_those_of_stores_written_before(name, form, topk, num_classes):
    """Each packed record stands in the file with the hash of its partner."""
    with np.load(GOLDEN) as file:
        golden = {entry.removeprefix(f'{form}/'): file[entry] for entry in file.files if entry.startswith(f'{form}/')}
    codec = make_codec('smallest' if name == 'relative' else name, topk, num_classes)
    first, second = (Record(*(golden[part][view] for part in ('index', 'log_prob', 'tail_mass'))) for view in (0, 1))
    reference = codec.encode(first) if name == 'relative' else None
    records, partner = codec.part(golden[name], mixing=True)
    assert np.array_equal(partner, golden['partner_hash'])
    assert codec.encode(second, reference).tobytes() == records.tobytes()
    assert codec.join(records, partner).tobytes() == golden[name].tobytes()
    row = ['exact', 'compact', 'smallest', 'relative'].index(name)
    decoded = codec.decode(records, reference)
    for part in ('index', 'log_prob', 'tail_mass'):
        assert np.array_equal(getattr(decoded, part), golden[f'decoded_{part}'][row])


def level_of(depth, topk):
    """The nearest level, by looking at all of them."""
    depths = level_depths(topk)
    return 1 + min(range(127), key=lambda n: abs(depths[n + 1] - depth))


@pytest.mark.parametrize('topk, sha', [
    (1, 'c540ebaf4896acbe'), (10, '5cc223863bc5cb04'), (100, '29c84276a65c69cb')])
def test_levels_are_the_same_on_every_machine(topk, sha):
    depths = level_depths(topk)
    assert len(depths) == 128 and depths[0] == 0 and depths[-1] > 16
    assert (np.diff(depths) > 0).all()
    assert (depths * 2048 == np.round(depths * 2048)).all()  # middles of steps in units of 1/1024
    assert hashlib.sha256(depths.astype('<f8')).hexdigest()[:16] == sha


@pytest.mark.parametrize('codec, topk, num_classes, size', [
    ('compact', 100, 21841, 211), ('compact', 10, 1000, 21), ('compact', 1, 1, 3), ('compact', 300, 300, 339),
    ('exact', 100, 21841, 402), ('exact', 10, 1000, 42), ('exact', 1, 1, 6)])
def test_record_bytes(codec, topk, num_classes, size):
    assert make_codec(codec, topk, num_classes).record_bytes == size


@pytest.mark.parametrize('name', codec_names())
@pytest.mark.parametrize('topk, num_classes', SIZES)
def test_promises(name, topk, num_classes):
    record = batch(topk, num_classes)
    codec = make_codec(name, topk, num_classes)
    packed = codec.encode(record)
    assert packed.shape == (12, codec.record_bytes) and packed.dtype == np.uint8
    found = codec.decode(packed)
    assert [a.dtype for a in found[:3]] == [np.int64, np.float32, np.float32] and found.partner_hash is None
    assert (found.index == np.sort(record.index, axis=1)).all()
    assert (found.index[np.arange(12), found.log_prob.argmax(axis=1)] == record.index[:, 0]).all()
    total = np.exp(found.log_prob.astype(np.float64)).sum(axis=1) + found.tail_mass
    assert np.abs(total - 1).max() < 1e-6
    assert divergence(record, found).mean() < codec.max_divergence
    assert ((found.tail_mass > 0) == (record.tail_mass > 0)).all()


@pytest.mark.parametrize('name', codec_names())
@pytest.mark.parametrize('topk, num_classes', [(10, 1000), (100, 21841), (2, 3000), (4, 5)])
def test_a_record_does_not_depend_on_its_batch_or_order(name, topk, num_classes):
    record = batch(topk, num_classes, num=140)  # more than are packed at once
    codec = make_codec(name, topk, num_classes)
    whole = codec.encode(record)
    parts = [codec.encode(record.row(slice(i, i + n))) for i, n in [(0, 1), (1, 66), (67, 73)]]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    flipped = codec.encode(Record(record.index[:, ::-1], record.log_prob[:, ::-1], record.tail_mass))
    assert whole.tobytes() == flipped.tobytes()
    single = Record.concat([codec.decode(row[None]) for row in whole])
    assert all(np.array_equal(a, b) for a, b in zip(codec.decode(whole), single, strict=True))


@pytest.mark.parametrize('name', codec_names())
def test_neither_the_type_of_the_classes_nor_partners_matter(name):
    record, codec = batch(100, 21841), make_codec(name, 100, 21841)
    for kind in ('<u2', '>i4', np.int32):
        other = Record(record.index.astype(kind), record.log_prob, record.tail_mass, np.arange(12, dtype=np.uint64))
        assert codec.encode(other).tobytes() == codec.encode(record).tobytes()


@pytest.mark.parametrize('name', codec_names())
@pytest.mark.parametrize('top', [0, 2, 4])
def test_ties_keep_the_first_listed_class_on_top(name, top):
    index = np.roll(np.array([[3, 9, 11, 20, 31]]), -top, axis=1)
    codec = make_codec(name, 5, 40)
    tied = Record(index, np.log(np.full((1, 5), 0.2, np.float32)), np.zeros(1, np.float32))
    found = codec.decode(codec.encode(tied)).row(0)
    order = np.argsort(-found.log_prob)
    assert found.index[order[0]] == index[0, 0]
    assert found.log_prob[order[0]] > found.log_prob[order[1]]


@pytest.mark.parametrize('name', codec_names())
def test_certain_and_improbable_classes(name):
    """One class has everything; the others lie at the bottom of float32."""
    log_prob = np.array([[0.0, -30.0, -87.0, -103.0]], np.float32)
    codec = make_codec(name, 4, 10)
    for tail in (0.0, 1e-12):
        record = Record(np.array([[1, 2, 3, 4]]), log_prob, np.array([tail], np.float32))
        found = codec.decode(codec.encode(record)).row(0)
        assert np.isfinite(found.log_prob).all() and found.log_prob.max() > -codec.max_divergence
        assert found.index[found.log_prob.argmax()] == 1
        assert abs(np.exp(found.log_prob).sum() + found.tail_mass - 1) < 1e-6
        assert (found.tail_mass > 0) == (tail > 0)
    record = Record(np.array([[1, 2, 3, 4]]), np.float32([[-20, -20, -20, -21]]), np.array([1.0], np.float32))
    small = codec.decode(codec.encode(record)).row(0)
    assert np.isfinite(small.log_prob).all() and small.tail_mass > 0.9999


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_compact_bits_follow_the_description(data):
    """Decodes with Python integers, bit by bit, what the codec wrote."""
    num_classes = data.draw(st.integers(1, 65536) | st.integers(1, 40))
    topk = data.draw(st.integers(1, min(num_classes, 130)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    log_prob = rng.normal(size=(1, topk)) * data.draw(st.floats(0, 12))
    tail = data.draw(st.floats(0, 0.99)) if topk < num_classes else 0.0
    log_prob += math.log(1 - tail) - np.log(np.exp(log_prob).sum())
    index = rng.choice(num_classes, (1, topk), replace=False)
    codec = make_codec('compact', topk, num_classes)
    packed = codec.encode(Record(index, log_prob.astype(np.float32), np.array([tail], np.float32)))

    bits = [byte >> i & 1 for byte in packed.tobytes() for i in range(8)]
    low_bits = codec.low_bits
    high_length = topk + ((num_classes - 1) >> low_bits)
    classes = [(at - rank) << low_bits for rank, at in enumerate(i for i in range(high_length) if bits[i])]
    rest = bits[high_length:]
    classes = [c + sum(rest[b * topk + i] << b for b in range(low_bits)) for i, c in enumerate(classes)]
    rest = rest[low_bits * topk:]
    levels = [sum(rest[b * topk + i] << b for b in range(7)) for i in range(topk)]
    code = sum(bit << b for b, bit in enumerate(rest[7 * topk:7 * topk + 12]))
    assert not any(rest[7 * topk + 12:])
    assert classes == sorted(index[0].tolist())
    assert levels.count(0) == 1

    scale = code / 4095
    mass = 2 * scale**2 if scale <= 0.5 else 1 - 2 * (1 - scale)**2
    depths = level_depths(topk)
    ratios = [math.exp(-depths[level]) for level in levels]
    found, expected = codec.decode(packed).row(0), np.log(np.array(ratios) * (1 - mass) / sum(ratios))
    assert found.index.tolist() == classes
    np.testing.assert_allclose(found.log_prob, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(found.tail_mass, mass, rtol=1e-6)
    assert abs(mass - tail) < 1e-3


@pytest.mark.parametrize('scale', [0.01, 1, 8])
@pytest.mark.parametrize('topk, num_classes', SIZES)
def test_compact_values_are_those_of_numpy(topk, num_classes, scale):
    """The compiled loop gives, bit for bit, what whole arrays in double precision give, for one record and for many."""
    codec, num = make_codec('compact', topk, num_classes), 12
    records = codec.encode(batch(topk, num_classes, num, scale))
    bits = np.unpackbits(records, axis=1, bitorder='little')
    high, rest = np.split(bits, [topk + ((num_classes - 1) >> codec.low_bits)], axis=1)
    planes = rest[:, :(codec.low_bits + 7) * topk].reshape(num, -1, topk).astype(np.int64)
    low, levels = ((part << np.arange(part.shape[1])[:, None]).sum(axis=1)
                   for part in np.split(planes, [codec.low_bits], axis=1))
    index = (np.nonzero(high)[1].reshape(num, topk) - np.arange(topk) << codec.low_bits) + low
    scale = rest[:, (codec.low_bits + 7) * topk:][:, :12] @ (1 << np.arange(12)) / 4095
    tail = np.where(scale <= 0.5, 2 * scale**2, 1 - 2 * (1 - scale)**2)
    depths = level_depths(topk)
    total = np.exp(-depths).astype(np.float32)[levels].sum(axis=1, dtype=np.float64)
    log_prob = (-depths).astype(np.float32)[levels] + np.log((1 - tail) / total)[:, None]
    expected = Record(index, log_prob.astype(np.float32), tail.astype(np.float32))
    for rows in (slice(None), slice(5, 6)):
        for found, array in zip(codec.decode(records[rows]), expected.row(rows), strict=True):
            np.testing.assert_array_equal(found, array)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(codec_names()), st.sampled_from(SIZES[:6]), st.binary(min_size=1, max_size=4), st.integers(1, 9))
def test_arbitrary_bytes_decode_or_are_refused(name, size, seed, num):
    codec = make_codec(name, *size)
    rng = np.random.default_rng(list(seed))
    records = rng.integers(0, 256, (num, codec.record_bytes), dtype=np.uint8)
    try:
        found = codec.decode(records)
    except ValueError:
        return
    assert found.index.shape == found.log_prob.shape == (num, size[0])
    assert 0 <= found.index.min() and found.index.max() < size[1]


@pytest.mark.parametrize('scale', [1, 2, 4, 8, 16])
@pytest.mark.parametrize('topk, num_classes', [(10, 1000), (100, 21841)])
def test_compact_error_on_flat_and_peaked_teachers(topk, num_classes, scale):
    record = batch(topk, num_classes, scale=scale)
    codec = make_codec('compact', topk, num_classes)
    assert divergence(record, codec.decode(codec.encode(record))).mean() < 1.5e-4


def test_compact_refuses_a_tail_that_leaves_nothing():
    codec = make_codec('compact', 10, 1000)
    records = codec.encode(batch(10, 1000, 3))
    bits = np.unpackbits(records, axis=1, bitorder='little')
    end = 10 + (999 >> codec.low_bits) + (codec.low_bits + 7) * 10
    bits[1, end:end + 12] = 1
    with pytest.raises(ValueError, match='no mass but the tail'):
        codec.decode(np.packbits(bits, axis=1, bitorder='little'))
