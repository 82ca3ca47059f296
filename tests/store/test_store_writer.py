import errno
import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_teacher import KEYS, PER_SHARD, TOPK, contents, dense, manifest, save, sparsify

from mmtinyvit.store import (
    LogitStore,
    LogitWriter,
    Record,
    StoreError,
    Unit,
    codec_names,
    default_samples_per_shard,
    make_codec,
)

FIRST = Unit(0, 0, 0, PER_SHARD)


def record_of(unit=FIRST):
    return sparsify(dense(unit.view, range(unit.first, unit.first + unit.count)), TOPK)


def test_units_cover_everything_once(tmp_path):
    with LogitWriter(tmp_path, manifest(), KEYS) as writer:
        units = list(writer.missing([3, 0]))
        assert [unit.view for unit in units] == [3] * 10 + [0] * 10
        assert [(unit.first, unit.count) for unit in units[:10]] == [(i, 16) for i in range(0, 144, 16)] + [(144, 6)]
        starts = [next(writer.missing([0], rank, 3)).shard for rank in range(3)]
        assert starts == [0, 3, 6]
        assert sorted(unit.shard for unit in writer.missing([0], 2, 3)) == list(range(10))


def test_going_on_does_only_what_is_missing(tmp_path, saved):
    save(tmp_path / 's', views=[0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 's').rglob('*.*')}
    with LogitWriter(tmp_path / 's', manifest(), KEYS) as writer:
        assert list(writer.missing([0])) == []
        assert {unit.view for unit in writer.missing([0, 2])} == {2}
    save(tmp_path / 's', views=[0, 2])
    assert all(path.stat().st_mtime_ns == then for path, then in before.items() if path.name != '.lock')
    assert contents(tmp_path / 's') == contents(saved)


def test_two_ranks_share_a_view_and_take_over(tmp_path, saved):
    """Interleaved in one process: each goes round from its own place, and one dies half-way."""
    path = tmp_path / 's'
    first, second = (LogitWriter(path, manifest(), KEYS) for _ in range(2))
    ours, theirs = first.missing([0, 2], 0, 2), second.missing([0, 2], 1, 2)
    seen = []
    for turn, unit in enumerate(ours):
        if first.claim(unit):
            seen.append((unit.view, unit.shard))
            first.write_shard(unit, record_of(unit), canaries={unit.first: bytes(range(16))})
        if turn < 4:
            unit = next(theirs)
            assert second.claim(unit)
            if turn < 3:
                second.write_shard(unit, record_of(unit), canaries={unit.first: bytes(range(16))})
        elif turn == 12:
            second.close()  # its claim on (0, 8) ends
    assert (0, 8) in seen and (0, 5) not in seen and len(seen) == len(set(seen)) == 17
    assert contents(path) == contents(saved)
    first.close()


def test_claims(tmp_path):
    first, second = (LogitWriter(tmp_path, manifest(), KEYS) for _ in range(2))
    unit = first.unit(0, 0)
    assert first.claim(unit) and first.claim(unit) and not second.claim(unit)
    with pytest.raises(StoreError, match='written already, or is being written'):
        second.write_shard(unit, record_of())
    first.release(unit)
    first.release(unit)
    assert second.claim(unit)
    second.write_shard(unit, record_of())
    assert not first.claim(unit) and not second.claim(unit)
    for wrong in (Unit(0, 10, 160, 16), Unit(0, 0, 0, 15), Unit(-1, 0, 0, 16)):
        with pytest.raises(StoreError):
            first.claim(wrong)
    first.close()
    with pytest.raises(StoreError, match='was closed'):
        first.claim(unit)
    second.close()
    second.close()


def test_waiting_ends_when_others_finish(tmp_path, monkeypatch):
    first, second = (LogitWriter(tmp_path, manifest(), KEYS) for _ in range(2))
    last = first.unit(0, 9)
    assert second.claim(last)
    rounds = []

    def sleep(_):
        rounds.append(1)
        if len(rounds) == 3:
            second.write_shard(last, record_of(last))

    monkeypatch.setattr('time.sleep', sleep)
    for unit in first.missing([0], wait=True):
        if first.claim(unit):
            first.write_shard(unit, record_of(unit))
    assert len(rounds) == 3 and LogitStore(tmp_path).coverage() == {0: (10, 10)}
    first.close()
    second.close()


@pytest.mark.parametrize('change, words', [
    (dict(base_seed=7), 'base_seed: 0 != 7'), (dict(topk=4), 'topk: 5 != 4'), (dict(num_classes=41), 'num_classes: 40'),
    (dict(codec='exact'), 'codec: "compact" != "exact"'), (dict(mixing=True), 'mixing: false != true'),
    (dict(samples_per_shard=8), 'samples_per_shard: 16 != 8'), (dict(num_samples=9), 'num_samples: 150 != 9'),
    (dict(fingerprints=dict(teacher=dict(name='other', sha256='ab'))), 'teacher.name: "made up" != "other"'),
    (dict(topk=6, base_seed=1), 'base_seed: 0 != 1; topk: 5 != 6')])
def test_another_store_is_refused_with_both_values(saved, change, words):
    before = contents(saved)
    with pytest.raises(StoreError) as error:
        LogitWriter(saved, manifest(**change), KEYS)
    assert words in str(error.value) and str(saved) in str(error.value)
    assert contents(saved) == before


def test_other_keys_are_refused_and_named(saved, tmp_path):
    swapped = [*KEYS[:3], KEYS[4], KEYS[3], *KEYS[5:]]
    with pytest.raises(StoreError, match=f"sample keys: sample 3 is '{KEYS[3]}' != '{KEYS[4]}'"):
        LogitWriter(saved, manifest(), swapped)
    (tmp_path / 'list').write_text('\n'.join(swapped))
    with pytest.raises(StoreError, match="sample keys: sample 3 is"):
        LogitWriter(saved, manifest(), tmp_path / 'list')
    with pytest.raises(StoreError, match='number of sample keys: 150 != 149'):
        LogitWriter(saved, manifest(), KEYS[:-1])
    with pytest.raises(StoreError, match='num_samples=9, but 150 keys were given'):
        LogitWriter(tmp_path / 'new', manifest(num_samples=9), KEYS)
    LogitWriter(saved, LogitStore(saved).manifest, KEYS).close()
    LogitWriter(saved, manifest(fingerprints=manifest()['fingerprints'] | dict(versions=dict(a='b'))), KEYS).close()


@pytest.mark.parametrize('spoil, words', [
    (lambda i, p, t: p.__setitem__((3, 1), np.nan), 'NaN or infinite'),
    (lambda i, p, t: p.__setitem__((3, 1), -np.inf), 'NaN or infinite'),
    (lambda i, p, t: t.__setitem__(3, np.nan), 'NaN or infinite'),
    (lambda i, p, t: p.__setitem__((3, 1), 0.01), 'above 0'),
    (lambda i, p, t: t.__setitem__(3, 1.01), 'tail mass outside'),
    (lambda i, p, t: t.__setitem__(3, -0.01), 'tail mass outside'),
    (lambda i, p, t: i.__setitem__((3, 1), 40), 'class outside 0 to 39'),
    (lambda i, p, t: i.__setitem__((3, 1), -1), 'class outside 0 to 39'),
    (lambda i, p, t: i.__setitem__((3, 1), i[3, 4]), 'same class twice'),
    (lambda i, p, t: p.__setitem__((3, 0), p[3, 0] - 1), 'do not sum to 1')])
def test_bad_values_name_the_sample_and_leave_nothing(tmp_path, spoil, words):
    with LogitWriter(tmp_path, manifest(), KEYS) as writer:
        unit = writer.unit(2, 1)
        bad = record_of(unit)
        spoil(*bad[:3])
        with pytest.raises(StoreError, match=f"The teacher gave sample '{KEYS[19]}' in view 2 .*{words}"):
            writer.write_shard(unit, bad)
        assert not (tmp_path / 'view-0002').exists()
        writer.write_shard(unit, record_of(unit))  # and the claim is free again


@pytest.mark.parametrize('spoil, words', [
    (lambda i, p, t: (i[:-1], p, t), r'index must hold whole numbers of shape \(16, 5\), not int64 of shape \(15, 5\)'),
    (lambda i, p, t: (i.astype(float), p, t), 'index must hold whole numbers'),
    (lambda i, p, t: (i, p[:, :4], t), 'log_prob must hold floats'),
    (lambda i, p, t: (i, p, t[:, None]), 'tail_mass must hold floats of shape'),
    (lambda i, p, t: (i, p, t, np.zeros(16, np.uint64)), 'mixing=False, so its records cannot have')])
def test_bad_arrays(tmp_path, spoil, words):
    with LogitWriter(tmp_path, manifest(), KEYS) as writer:
        with pytest.raises(StoreError, match=words):
            writer.write_shard(writer.unit(0, 0), Record(*spoil(*record_of()[:3])))


@pytest.mark.parametrize('canaries, words', [
    ({16: bytes(16)}, 'A canary must be 16 bytes for a position from 0 to 15'), ({0: bytes(15)}, 'not 15 bytes for 0')])
def test_bad_canaries(tmp_path, canaries, words):
    with LogitWriter(tmp_path, manifest(), KEYS) as writer:
        with pytest.raises(StoreError, match=words):
            writer.write_shard(writer.unit(0, 0), record_of(), canaries)


@pytest.mark.parametrize('partner', [None, np.zeros(16), np.zeros(15, np.uint64)])
def test_bad_partners(tmp_path, partner):
    with LogitWriter(tmp_path, manifest(mixing=True), KEYS) as writer:
        with pytest.raises(StoreError, match='partner'):
            writer.write_shard(writer.unit(0, 0), record_of()._replace(partner_hash=partner))


def test_rounding_is_forgiven(tmp_path):
    with LogitWriter(tmp_path, dict(topk=2, num_classes=2), ['a']) as writer:
        writer.write_shard(writer.unit(0, 0), Record(np.array([[1, 0]], np.int32), np.array([[1e-6, -16]], np.float64),
                                                     np.array([-1e-7], np.float32)))
    found = LogitStore(tmp_path).read(0, ['a'])
    assert found.index.tolist() == [[0, 1]] and found.log_prob[0, 1] <= 0 and found.tail_mass.tolist() == [0]


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('x')
    with pytest.raises(StoreError, match=r'not a store and not empty \(it has thesis.tex\)'):
        LogitWriter(tmp_path, manifest(), KEYS)
    with pytest.raises(StoreError, match='in the way and is not a folder'):
        LogitWriter(tmp_path / 'thesis.tex', manifest(), KEYS)
    with pytest.raises(StoreError, match='in the way and is not a folder'):
        LogitWriter(tmp_path / 'thesis.tex' / 'store', manifest(), KEYS)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_nothing_to_save(tmp_path):
    with pytest.raises(StoreError, match='between 1 and 4294967295 samples, but the list of keys for .* has 0'):
        LogitWriter(tmp_path / 's', manifest(), [])


@pytest.mark.parametrize('where, code, words', [
    ('write', errno.ENOSPC, 'The disk is full .* free 1 MB or more and start again; finished shards are kept'),
    ('fsync', errno.EDQUOT, 'The disk is full'), ('fsync', errno.EIO, 'could not be accessed'),
    ('replace', errno.EROFS, 'Cannot write to the store')])
def test_failing_disk_leaves_no_temporary_file(tmp_path, monkeypatch, where, code, words):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    class Torn(io.FileIO):
        def write(self, data):
            super().write(data[:40])
            fail()

    with LogitWriter(tmp_path, manifest(), KEYS) as writer:
        writer.write_shard(writer.unit(0, 1), record_of(writer.unit(0, 1)))
        before = contents(tmp_path)
        with monkeypatch.context() as patch:
            if where == 'write':
                patch.setattr('mmtinyvit.store.files.open', Torn, raising=False)
            else:
                patch.setattr(os, where, fail)
            with pytest.raises(StoreError, match=words):
                writer.write_shard(writer.unit(0, 0), record_of())
        assert contents(tmp_path) == before
        writer.write_shard(writer.unit(0, 0), record_of())


@pytest.mark.parametrize('num, size', [(1, 64), (150, 64), (7500, 64), (16385, 128), (1_281_167, 8192),
                                       (14_197_122, 65536), (2**32 - 1, 65536)])
def test_default_shards(num, size):
    assert default_samples_per_shard(num) == size


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_round_trip(tmp_path_factory, data):
    """Any size: what is read is what the codec makes of what was written, whatever shard it went through."""
    num_classes = data.draw(st.integers(1, 60))
    topk = data.draw(st.integers(1, num_classes))
    num = data.draw(st.integers(1, 40))
    codec = data.draw(st.sampled_from(codec_names()))
    path = tmp_path_factory.mktemp('trip')
    keys = [f'{i}' for i in range(num)]
    record = sparsify(dense(1, range(num), num_classes, data.draw(st.floats(0, 10))), topk)
    request = dict(topk=topk, num_classes=num_classes, codec=codec, samples_per_shard=data.draw(st.integers(1, 50)))
    with LogitWriter(path, request, keys) as writer:
        for unit in writer.missing([0]):
            rows = slice(unit.first, unit.first + unit.count)
            writer.write_shard(unit, record.row(rows))
    store = LogitStore(path)
    found = store.read(0, keys)
    if codec != 'smallest':  # that gives back others for classes that are as good as impossible
        assert (found.index == np.sort(record.index, axis=1)).all()
    packing = make_codec(codec, topk, num_classes)
    expected = packing.decode(packing.encode(record._replace(log_prob=np.minimum(record.log_prob, 0))))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(finding.problem for finding in store.verify())
