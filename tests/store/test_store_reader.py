import pickle
import shutil
import unicodedata
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from store_teacher import CLASSES, KEYS, SAMPLES, TOPK, WORKERS, dense, hashes, manifest, read_view, save, sparsify

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, LogitWriter, Record, StoreError, codec_names


def same(a, b):
    return all((x is None and y is None) or (x == y).all() for x, y in zip(a, b, strict=True))


def test_attributes(saved):
    store = LogitStore(saved)
    assert (store.num_samples, len(store), store.num_classes, store.topk) == (SAMPLES, SAMPLES, CLASSES, TOPK)
    assert (store.codec, store.base_seed, store.mixing, store.record_bytes) == ('compact', 0, False, 9)
    assert store.views == [0, 2]
    assert store.coverage() == {0: (10, 10), 2: (10, 10)}
    assert store.manifest.fingerprints['teacher']['name'] == 'made up'
    assert store.key(149) == KEYS[149]
    assert store.canaries(2, 9) == {144: bytes(range(16))}
    assert '150 samples, top 5 of 40, compact, 9 bytes' in repr(store)


def test_values_in_any_order_and_number(saved):
    store = LogitStore(saved)
    order = np.random.default_rng(0).integers(0, SAMPLES, 400)
    found = store.read(2, [KEYS[i] for i in order])
    index, log_prob, tail, _ = sparsify(dense(2, order), TOPK)
    assert (found.index == np.sort(index, axis=1)).all()
    by_class = np.take_along_axis(log_prob, index.argsort(axis=1), 1)
    assert np.abs(found.log_prob - by_class)[by_class > -4].max() < 0.1
    assert np.abs(found.tail_mass - tail).max() < 1e-3
    assert found.partner_hash is None
    assert [a.dtype for a in found[:3]] == [np.int64, np.float32, np.float32]
    assert same(found, store.read_positions(2, order))
    assert not same(found, store.read_positions(0, order))
    assert store.positions([KEYS[7], KEYS[3]]).tolist() == [7, 3]
    single = [store.read(2, [KEYS[i]]) for i in order]
    assert same(found, Record.concat(single))


def test_a_key_that_only_looks_like_one_of_the_store(tmp_path):
    with LogitWriter(tmp_path / 's', manifest(), [unicodedata.normalize('NFC', 'café.png'), 'x.png']):
        pass
    with pytest.raises(StoreError, match='has no sample .*NFC and not NFD: rename one of them.; its 2 samples'):
        LogitStore(tmp_path / 's').positions(['x.png', unicodedata.normalize('NFD', 'café.png')])


@pytest.mark.parametrize('codec', codec_names())
def test_nothing_asked_nothing_read(tmp_path, codec):
    save(tmp_path / 's', codec=codec)
    found = LogitStore(tmp_path / 's').read(0, [])
    assert [a.shape for a in found[:3]] == [(0, TOPK), (0, TOPK), (0,)]


@pytest.mark.parametrize('codec', codec_names())
@pytest.mark.parametrize('topk', [1, 3])
def test_fewer_classes_than_are_stored(tmp_path, codec, topk):
    """Against a plain loop over the rows of what is stored."""
    save(tmp_path / 's', codec=codec)
    store = LogitStore(tmp_path / 's')
    whole, found = store.read(0, KEYS), store.read(0, KEYS, topk=topk)
    assert found.index.shape == found.log_prob.shape == (SAMPLES, topk) and found.tail_mass.dtype == np.float32
    for row in range(SAMPLES):
        said = dict(zip(whole.index[row].tolist(), whole.log_prob[row].tolist(), strict=True))
        best = sorted(sorted(said, key=lambda number: (-said[number], number))[:topk])
        assert found.index[row].tolist() == best and found.log_prob[row].tolist() == [said[number] for number in best]
        tail = whole.tail_mass[row] + sum(np.exp(said[number]) for number in said if number not in best)
        assert abs(found.tail_mass[row] - tail) < 1e-6
    assert same(store.read(0, KEYS, topk=TOPK), whole)


@pytest.mark.parametrize('topk', [0, TOPK + 1])
def test_more_classes_than_are_stored(saved, topk):
    with pytest.raises(StoreError, match=f'has the top {TOPK} classes of each view, so topk={topk} cannot be read'):
        LogitStore(saved).read_positions(0, [0], topk=topk)


def test_results_may_be_written_to(saved):
    store = LogitStore(saved)
    found, kept = store.read(0, KEYS[:2]), store.read(0, KEYS[:2])
    for array in found[:3]:
        array += 1
    assert same(store.read(0, KEYS[:2]), kept) and not same(found, kept)


@pytest.mark.parametrize('limit', [1, 2, 256])
def test_few_open_shards_suffice(saved, limit):
    store = LogitStore(saved, max_open_shards=limit)
    order = np.random.default_rng(1).permutation(SAMPLES)
    assert same(store.read_positions(0, order), LogitStore(saved).read_positions(0, order))
    mapped = {line.split()[-1] for line in open('/proc/self/maps') if line.rstrip().endswith('.logits')}
    assert len([path for path in mapped if path.startswith(f'{saved}/')]) <= limit


def test_a_worker_opens_it_again(saved):
    store = LogitStore(saved)
    here = store.read(2, KEYS)
    assert len(pickle.dumps(store)) < 1000
    with ProcessPoolExecutor(1, mp_context=WORKERS) as pool:
        assert same(here, pool.submit(read_view, store).result())


def test_missing_things_are_named(saved, tmp_path):
    store = LogitStore(saved)
    with pytest.raises(StoreError, match=f"store {saved} has no sample 'n9/x.JPEG'; its 150 samples are named like"):
        store.read(0, [KEYS[0], 'n9/x.JPEG'])
    with pytest.raises(StoreError, match=f'{saved} has no view 1 .asked for .*{KEYS[5]}.*; it has the views 0, 2'):
        store.read(1, [KEYS[5]])
    with pytest.raises(StoreError, match='samples 0 to 149, not 3 to 150'):
        store.read_positions(0, [3, 150])
    with pytest.raises(StoreError, match='not -1 to 0'):
        store.read_positions(0, [-1, 0])
    with pytest.raises(StoreError, match='shards 0 to 9 in each view, not 10'):
        store.canaries(0, 10)
    for view in (-1, 10**6, 1.0, 'a', None, True):
        with pytest.raises(StoreError, match='A view is a whole number'):
            store.read(view, [KEYS[0]])
    with pytest.raises(StoreError, match='There is no store at .*: check the path'):
        LogitStore(tmp_path / 'nowhere')
    assert issubclass(StoreError, UserError)


def test_partial_copies_work_as_far_as_they_go(saved, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(saved, copy, ignore=shutil.ignore_patterns('view-0002', '.lock'))
    (copy / 'view-0000' / 'shard-00004.logits').unlink()
    (copy / 'view-0000' / 'shard-00005.logits').rename(copy / 'view-0000' / '.shard-00005.logits.X1y2Z3')  # by rsync
    (copy / 'view-00007').mkdir()
    (copy / 'view-abc').mkdir()
    store = LogitStore(copy)
    assert store.views == [0]
    assert store.coverage() == {0: (8, 10)}
    assert same(store.read(0, KEYS[:64]), LogitStore(saved).read(0, KEYS[:64]))
    with pytest.raises(StoreError, match=f'View 0 of the store {copy} lacks shard 4 .asked for sample .{KEYS[70]}'):
        store.read(0, [KEYS[70]])
    assert not any(finding.problem for finding in store.verify())
    shutil.copytree(saved / 'view-0002', copy / 'view-0002')
    assert store.views == [0, 2]
    assert same(store.read(2, KEYS), LogitStore(saved).read(2, KEYS))


def test_views_saved_in_two_places_can_be_put_together(saved, tmp_path):
    """Stores with the same identity exchange shards, also if library versions differ."""
    save(tmp_path / 'b', views=[5], fingerprints=dict(teacher=dict(name='made up', sha256='ab'),
                                                      versions=dict(numpy='9.9')))
    shutil.copytree(saved / 'view-0000', tmp_path / 'b' / 'view-0000')
    store = LogitStore(tmp_path / 'b')
    assert store.views == [0, 5]
    assert same(store.read(0, KEYS), LogitStore(saved).read(0, KEYS))


def test_partners(tmp_path):
    partner = np.roll(np.arange(SAMPLES), 1)
    with LogitWriter(tmp_path / 's', dict(topk=1, num_classes=3, mixing=True), KEYS) as writer:
        named = hashes([KEYS[i] for i in partner])
        for unit in writer.missing([0]):
            rows = slice(unit.first, unit.first + unit.count)
            zeros = np.zeros((unit.count, 1), np.float32)
            writer.write_shard(unit, Record(zeros.astype(int), zeros, zeros[:, 0], named[rows]))
    store = LogitStore(tmp_path / 's')
    order = np.array([5, 149, 0, 77])
    found = store.read_positions(0, order)
    assert found.partner_hash.dtype == np.uint64
    assert (found.partner_hash == hashes([KEYS[partner[i]] for i in order])).all()
    assert store.record_bytes == 3 + 8
