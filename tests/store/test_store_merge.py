"""Stores put together, against stores that were saved in one piece."""
import shutil

import numpy as np
import pytest
from store_teacher import KEYS, SAMPLES, TOPK, contents, dense, hashes, manifest, save, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, StoreError
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.keys import text_sha256


def save_part(path, part, views=(0,), wrong=None, **changes):
    """The samples ``part`` (positions among all keys), as a store of its own, each record as in a store of all."""
    keys = [KEYS[i] for i in part]
    prints = dict(teacher=dict(name='made up'), versions=dict(numpy=changes.pop('version', '1')),
                  dataset=dict(num_samples=len(keys), order_hash=text_sha256(keys)[0], classes_hash='ab'))
    with LogitWriter(path, manifest(fingerprints=prints, **changes), keys) as writer:
        for unit in writer.missing(views):
            here = part[unit.first:unit.first + unit.count]
            record = sparsify(dense(unit.view, here), TOPK)
            if wrong is not None and wrong in here:
                row = here.index(wrong)
                record.log_prob[row] = np.log((1 - record.tail_mass[row]) / TOPK)
            writer.write_shard(unit, record, canaries={unit.first: here[0].to_bytes(16, 'little')})


@pytest.mark.parametrize('other', [(2,), (0, 2)], ids=['disjoint', 'overlapping'])
def test_views_of_the_same_samples(saved, tmp_path, other):
    save(tmp_path / 'a', views=(0,))
    save(tmp_path / 'b', views=other)
    before = contents(tmp_path / 'a'), contents(tmp_path / 'b')
    merged = merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
    assert contents(tmp_path / 'c') == contents(saved)
    assert (contents(tmp_path / 'a'), contents(tmp_path / 'b')) == before
    assert (merged.kind, merged.views, merged.written) == ('views', [0, 2], 20)
    assert merged.overlaps == (10 if 0 in other else 0)


def test_shards_of_one_view_in_several_stores(saved, tmp_path):
    for name, gone in (('a', range(0, 6)), ('b', range(4, 10))):
        shutil.copytree(saved, tmp_path / name)
        for shard in gone:
            (tmp_path / name / 'view-0000' / f'shard-{shard:05d}.logits').unlink()
    merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
    assert LogitStore(tmp_path / 'c').coverage() == {0: (8, 10), 2: (10, 10)}
    assert merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c').written == 0
    merge_stores([saved, tmp_path / 'a'], tmp_path / 'c')
    assert contents(tmp_path / 'c') == contents(saved)


def test_samples_of_the_same_views(tmp_path):
    """Against the store of all samples, which one process saved; shards end elsewhere."""
    save_part(tmp_path / 'all', list(range(SAMPLES)), views=(0, 1))
    save_part(tmp_path / 'a', list(range(61)), views=(0, 1, 4))
    save_part(tmp_path / 'b', list(range(61, SAMPLES)), views=(0, 1), samples_per_shard=7, version='2')
    before = contents(tmp_path / 'a'), contents(tmp_path / 'b')
    merged = merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
    assert (merged.kind, merged.num_samples, merged.views, merged.left_out) == ('samples', SAMPLES, [0, 1], [4])
    assert merged.versions == ['numpy: "1" != "2"'] and merged.overlaps == 0
    assert (contents(tmp_path / 'a'), contents(tmp_path / 'b')) == before
    whole, new = LogitStore(tmp_path / 'all'), LogitStore(tmp_path / 'c')
    assert new.manifest == whole.manifest
    for view in (0, 1):
        assert np.array_equal(*(store.read_packed(view, np.arange(SAMPLES)) for store in (whole, new)))
        canaries = {k: v for shard in range(10) for k, v in new.canaries(view, shard).items()}
        firsts = [*range(0, 61, 16), *range(61, SAMPLES, 7)]  # each digest is its sample's place among all keys
        assert canaries == {first: first.to_bytes(16, 'little') for first in firsts}


def test_samples_in_both_stores(tmp_path):
    a, b = [5, 0, 9, 3], [3, 7, 5, 1]
    save_part(tmp_path / 'a', a)
    save_part(tmp_path / 'b', b)
    merged = merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
    assert (merged.num_samples, merged.overlaps) == (6, 2)
    store, order = LogitStore(tmp_path / 'c'), [5, 0, 9, 3, 7, 1]
    assert [store.key(i) for i in range(6)] == [KEYS[i] for i in order]
    save_part(tmp_path / 'expected', order)
    assert np.array_equal(store.read_packed(0, np.arange(6)),
                          LogitStore(tmp_path / 'expected').read_packed(0, np.arange(6)))
    save_part(tmp_path / 'wrong', b, wrong=5)
    with pytest.raises(StoreError, match=f'say different things about {KEYS[5]!r} in view 0'):
        merge_stores([tmp_path / 'a', tmp_path / 'wrong'], tmp_path / 'd')
    assert not (tmp_path / 'd').exists()


def test_an_interrupted_merge_goes_on(tmp_path):
    save_part(tmp_path / 'a', list(range(70)))
    save_part(tmp_path / 'b', list(range(70, SAMPLES)))

    def two_units(units):
        yield from units[:2]
        raise KeyboardInterrupt

    parts = [tmp_path / 'a', tmp_path / 'b']
    with pytest.raises(KeyboardInterrupt):
        merge_stores(parts, tmp_path / 'c', two_units)
    assert LogitStore(tmp_path / 'c').coverage() == {0: (2, 10)}
    assert merge_stores(parts, tmp_path / 'c').written == 8
    merge_stores(parts, tmp_path / 'at_once')
    assert contents(tmp_path / 'c') == contents(tmp_path / 'at_once')


def test_what_is_refused(saved, tmp_path):
    with pytest.raises(StoreError, match='two stores or more'):
        merge_stores([saved], tmp_path / 'c')
    with pytest.raises(StoreError, match='would lie in'):
        merge_stores([saved, saved], saved)
    save(tmp_path / 'seed', base_seed=4)
    with pytest.raises(StoreError, match='hold different things: base_seed: 0 != 4'):
        merge_stores([saved, tmp_path / 'seed'], tmp_path / 'c')
    save(tmp_path / 'shards', samples_per_shard=32)
    with pytest.raises(StoreError, match='in shards of 16 and 32: reshard one'):
        merge_stores([saved, tmp_path / 'shards'], tmp_path / 'c')
    save_part(tmp_path / 'a', [0, 1], views=(0,))
    save_part(tmp_path / 'b', [2, 3], views=(1,))
    with pytest.raises(StoreError, match='no complete view in common'):
        merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
    shutil.copytree(saved, tmp_path / 'changed')
    shard = tmp_path / 'changed' / 'view-0002' / 'shard-00001.logits'
    data = bytearray(shard.read_bytes())
    data[90] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match='say different things in view 2, shard 1'):
        merge_stores([saved, tmp_path / 'changed'], tmp_path / 'c')
    save(tmp_path / 'first', views=(0,))
    shutil.rmtree(tmp_path / 'changed' / 'view-0000')
    with pytest.raises(StoreError, match='the checksum of samples 16 to 23 in view 2 is wrong'):
        merge_stores([tmp_path / 'first', tmp_path / 'changed'], tmp_path / 'd')


def test_mixed_views_are_of_all_samples(tmp_path):
    for name, keys in (('a', KEYS[:4]), ('b', KEYS[4:8])):
        with LogitWriter(tmp_path / name, manifest(mixing=True), keys) as writer:
            for unit in writer.missing([0]):
                writer.write_shard(unit, sparsify(dense(0, range(4)), TOPK)._replace(partner_hash=hashes(keys)))
    with pytest.raises(StoreError, match='pairs were mixed within each'):
        merge_stores([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'c')
