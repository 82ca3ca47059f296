"""Stores whose views are coded relative to one of them: order of work, partial copies, damage, merging."""
import hashlib
import json
import shutil
import time

import numpy as np
import pytest
from store_teacher import (
    CLASSES,
    KEYS,
    PER_SHARD,
    SAMPLES,
    TOPK,
    WORKERS,
    contents,
    dense,
    hashes,
    make_older,
    manifest,
    save,
    sparsify,
)

from mmtinyvit.store import LogitStore, LogitWriter, StoreError, make_codec, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store
from mmtinyvit.store.admin.reshard import reshard_store


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Views 0, 1 and 3; not to be changed."""
    path = tmp_path_factory.mktemp('whole') / 'store'
    save(path, (0, 1, 3), codec='smallest')
    return path


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole, tmp_path / 'copy')
    return tmp_path / 'copy'


def problems(path):
    return [finding.problem for finding in verify_store(path) if finding.problem]


def write(writer, unit):
    writer.write_shard(unit, sparsify(dense(unit.view, range(unit.first, unit.first + unit.count)), TOPK))


def test_what_is_read_is_what_the_codec_makes(whole):
    store, codec = LogitStore(whole), make_codec('smallest', TOPK, CLASSES)
    reference = codec.encode(sparsify(dense(0, range(SAMPLES)), TOPK))
    order = np.random.default_rng(0).permutation(SAMPLES)
    for view in (0, 1, 3):
        record, needed = sparsify(dense(view, range(SAMPLES)), TOPK), None if view == 0 else reference
        expected = codec.decode(codec.encode(record, needed), needed).row(order)
        for found, want in zip(store.read(view, [KEYS[i] for i in order]), expected, strict=True):
            assert np.array_equal(found, want)
    assert store.reference_view == 0 and problems(whole) == []


def test_records_are_cut(whole):
    size, codec = (whole / 'view-0001/shard-00000.logits').stat().st_size, make_codec('smallest', TOPK, CLASSES)
    reference, record = (sparsify(dense(view, range(PER_SHARD)), TOPK) for view in (0, 1))
    lengths = [len(row.tobytes().rstrip(b'\0')) for row in codec.encode(record, codec.encode(reference))]
    assert size == 64 + 32 + 4 + 4 + sum(lengths) + PER_SHARD + 4 + 24 + 4  # header, table, lengths, canary, checksums


@pytest.mark.parametrize('mixing, digest', [
    (False, '8ec3136b6ea9ab85c2fbae2a0dfd571818a0be4d3e137c80736c52115e5e74a6'),
    (True, '38c67851fe2cfa1fd26e55eac4d6997da61638b4e5573acfb36afe094ca4a254')])
def test_files_are_those_of_stores_written_before(tmp_path, mixing, digest):
    with LogitWriter(tmp_path / 's', manifest(codec='smallest', mixing=mixing), KEYS) as writer:
        partner = hashes(KEYS[::-1])
        for unit in writer.missing([0, 1]):
            rows = slice(unit.first, unit.first + unit.count)
            record = sparsify(dense(unit.view, range(rows.start, rows.stop)), TOPK)
            writer.write_shard(unit, record._replace(partner_hash=partner[rows] if mixing else None),
                               canaries={unit.first: bytes(range(16))})
    make_older(tmp_path / 's')
    found = hashlib.sha256()
    for name, data in contents(tmp_path / 's').items():
        found.update(name.encode() + data)
    assert found.hexdigest() == digest


def test_the_reference_view_comes_first(tmp_path):
    with LogitWriter(tmp_path / 's', manifest(codec='smallest', reference_view=2), KEYS) as writer:
        units = list(writer.missing([1, 2, 3]))
        assert [unit.view for unit in units[::10]] == [2, 1, 3]
        late = writer.unit(1, 4)
        assert not writer.claim(late)
        with pytest.raises(StoreError, match=r'view-0001/shard-00004.* is coded relative to .*view-0002/shard-00004'):
            write(writer, late)
        write(writer, writer.unit(2, 4))
        assert writer.claim(late)
        write(writer, late)
        with pytest.raises(StoreError, match='codes its views relative to view 2, .*: save or copy view 2 first'):
            next(writer.missing([0]))
        for unit in writer.missing([2]):
            write(writer, unit)
        assert next(writer.missing([0])) == writer.unit(0, 0)
    assert json.loads((tmp_path / 's/manifest.json').read_text())['reference_view'] == 2
    with pytest.raises(StoreError, match='reference_view: 2 != 0'):
        save(tmp_path / 's', codec='smallest')


def test_other_codecs_have_none(tmp_path, saved):
    assert 'reference_view' not in json.loads((saved / 'manifest.json').read_text())
    with pytest.raises(StoreError, match="reference_view must be left out with codec 'compact', not '0'"):
        LogitWriter(tmp_path / 's', manifest(reference_view=0), KEYS)
    with pytest.raises(StoreError, match='reference_view must be a whole number from 0 to 999999'):
        LogitWriter(tmp_path / 's', manifest(codec='smallest', reference_view=-1), KEYS)


def test_killed_processes_leave_what_one_process_would(tmp_path, whole):
    """Two of them, killed when there are so many of the 30 shards."""
    path = tmp_path / 's'
    for shards in (1, 9, 20, None):
        workers = [WORKERS.Process(target=save, args=(path, (3, 1, 0), rank, 2, 0.004, True),
                                   kwargs=dict(codec='smallest'), daemon=True) for rank in range(2)]
        for worker in workers:
            worker.start()
        if shards is not None:
            while len(list(path.glob('view-*/*.logits'))) < shards and any(worker.is_alive() for worker in workers):
                time.sleep(0.001)
            for worker in workers:
                worker.kill()
        for worker in workers:
            worker.join(60)
        if (path / 'manifest.json').exists():
            assert problems(path) == []
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert contents(path) == contents(whole)


def test_a_copy_without_the_reference_view(copied):
    shutil.rmtree(copied / 'view-0000')
    before = contents(copied)
    with pytest.raises(StoreError, match='View 3 of the store .* is coded relative to view 0, which cannot be read: '
                                         '.*has no view 0'):
        LogitStore(copied).read(3, KEYS[:1])
    assert len(problems(copied)) == 20 and 'copy it too, or save it again' in problems(copied)[0]
    repair = repair_store(copied, act=True)
    assert repair.shards == [] and len(repair.problems) == 20 and contents(copied) == before
    save(copied, (0, ), codec='smallest')
    assert problems(copied) == [] and len(LogitStore(copied).read(3, KEYS).index) == SAMPLES


def test_another_reference_is_noticed(copied, whole):
    """The reference view saved again by a teacher that says something else."""
    with LogitWriter(copied, manifest(codec='smallest'), KEYS) as writer:
        unit = writer.unit(0, 3)
        (copied / 'view-0000/shard-00003.logits').unlink()
        writer.write_shard(unit, sparsify(dense(77, range(unit.first, unit.first + unit.count)), TOPK))
    store = LogitStore(copied)
    assert len(store.read(1, KEYS[:48]).index) == 48
    with pytest.raises(StoreError, match='view-0001/shard-00003.* was coded relative to another .*view-0000/shard'):
        store.read(1, KEYS[48:49])
    assert len(problems(copied)) == 2
    assert sorted(path.parent.name for path in repair_store(copied, act=True).shards) == ['view-0001', 'view-0003']
    save(copied, (0, 1, 3), codec='smallest')
    assert problems(copied) == [] and contents(copied) != contents(whole)


def test_merging_views_and_parts(tmp_path, whole, copied):
    save(tmp_path / 'b', (0, 5), codec='smallest')
    shutil.rmtree(copied / 'view-0003')
    merged = merge_stores([copied, tmp_path / 'b', whole], tmp_path / 'all')
    assert merged.views == [0, 1, 3, 5] and problems(tmp_path / 'all') == []
    assert contents(whole).items() <= contents(tmp_path / 'all').items()
    for part in (copied, tmp_path / 'b'):
        shutil.rmtree(part / 'view-0000')
    with pytest.raises(StoreError, match='View 1, shard 0 is coded relative to view 0, shard 0, which no store has'):
        merge_stores([copied, tmp_path / 'b'], tmp_path / 'none')


def test_copying_takes_the_reference_view_along(tmp_path, whole):
    with pytest.raises(StoreError, match='The copy .* codes its views relative to view 0, .*: save or copy view 0'):
        copy_store(whole, tmp_path / 'part', views=[1])
    assert copy_store(whole, tmp_path / 'part', views=[0, 3]).copied == 20
    assert copy_store(whole, tmp_path / 'part', views=[1]).copied == 10
    assert contents(tmp_path / 'part') == contents(whole) and problems(tmp_path / 'part') == []


def test_a_store_at_a_url(tmp_path, whole):
    url = f'memory://{tmp_path.name}/relative'
    copy_store(whole, url)
    store = LogitStore(url, cache=tmp_path / 'cache')
    for one, other in zip(store.read(3, KEYS), LogitStore(whole).read(3, KEYS), strict=True):
        assert np.array_equal(one, other)
    assert problems(url) == [] and store.bytes_per_view == LogitStore(whole).bytes_per_view


def test_resharding_and_merging_samples(tmp_path, whole):
    reshard_store(whole, tmp_path / 'small', 7)
    with pytest.raises(StoreError, match='The new store .* codes its views relative to view 0'):
        reshard_store(whole, tmp_path / 'none', 7, views=[1])
    store, small = LogitStore(whole), LogitStore(tmp_path / 'small')
    for view in (0, 1, 3):
        for one, other in zip(store.read(view, KEYS), small.read(view, KEYS), strict=True):
            assert np.array_equal(one, other)
    others = [f'more/{key}' for key in KEYS[:20]]
    with LogitWriter(tmp_path / 'more', manifest(codec='smallest'), others) as writer:
        for unit in writer.missing([0, 1]):
            write(writer, unit)
    assert merge_stores([whole, tmp_path / 'more'], tmp_path / 'both').views == [0, 1]
    both, more = LogitStore(tmp_path / 'both'), LogitStore(tmp_path / 'more')
    for one, other in zip(both.read(1, KEYS + others), zip(store.read(1, KEYS), more.read(1, others), strict=True),
                          strict=True):
        assert one is None or np.array_equal(one, np.concatenate(other))


def test_mixed_pairs(tmp_path):
    with LogitWriter(tmp_path / 's', manifest(codec='smallest', mixing=True), KEYS) as writer:
        partner = hashes(KEYS[::-1])
        for unit in writer.missing([0, 1]):
            rows = range(unit.first, unit.first + unit.count)
            record = sparsify(dense(unit.view, rows), TOPK)
            writer.write_shard(unit, record._replace(partner_hash=partner[rows]))
    store = LogitStore(tmp_path / 's')
    record = store.read(1, KEYS[10:90])
    assert np.array_equal(record.partner_hash, partner[10:90])
    assert np.array_equal(record.index, np.sort(sparsify(dense(1, range(10, 90)), TOPK).index, 1))


def test_long_records(tmp_path):
    """Lengths in two bytes, and a last block of one record."""
    keys = [str(i) for i in range(33)]
    record = sparsify(dense(0, range(33), 600), 300)
    with LogitWriter(tmp_path / 's', dict(topk=300, num_classes=600, codec='smallest'), keys) as writer:
        writer.write_shard(writer.unit(0, 0), record)
    assert LogitStore(tmp_path / 's').record_bytes > 255
    assert np.array_equal(LogitStore(tmp_path / 's').read(0, keys).index, np.sort(record.index, 1))
