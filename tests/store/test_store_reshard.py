"""Other shards, the same records."""
import shutil

import numpy as np
import pytest
from store_teacher import KEYS, SAMPLES, contents, save

from mmtinyvit.store import LogitStore, StoreError, verify_store
from mmtinyvit.store.admin.reshard import reshard_store

EVERYTHING = np.arange(SAMPLES)


@pytest.mark.parametrize('size', [3, 16, 40, 1000])
def test_records_and_canaries_stay(saved, tmp_path, size):
    before = contents(saved)
    result = reshard_store(saved, tmp_path / 'out', size)
    assert contents(saved) == before
    old, new = LogitStore(saved), LogitStore(tmp_path / 'out')
    assert (result.views, result.shards, result.written) == ([0, 2], -(-SAMPLES // size), 2 * -(-SAMPLES // size))
    assert result.without_canary == 2 * (result.shards - len({16 * i // size for i in range(10)}))
    assert new.manifest.samples_per_shard == size and not [f for f in new.verify() if f.problem]
    for view in (0, 2):
        assert np.array_equal(old.read_packed(view, EVERYTHING), new.read_packed(view, EVERYTHING))
        for ours, theirs in zip(old.read(view, KEYS)[:3], new.read(view, KEYS)[:3], strict=True):
            assert np.array_equal(ours, theirs)
        canaries = [{k: v for shard in range(store.coverage()[view].expected)
                     for k, v in store.canaries(view, shard).items()} for store in (old, new)]
        assert canaries[0] == canaries[1] and len(canaries[0]) == 10


def test_back_again_is_the_same_store(saved, tmp_path):
    reshard_store(saved, tmp_path / 'there', 9)
    reshard_store(tmp_path / 'there', tmp_path / 'back', LogitStore(saved).manifest.samples_per_shard)
    assert contents(tmp_path / 'back') == contents(saved)


def test_an_interrupted_call_goes_on(saved, tmp_path):
    def three_units(units):
        yield from units[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reshard_store(saved, tmp_path / 'out', 50, watch=three_units)
    assert LogitStore(tmp_path / 'out').coverage() == {0: (3, 3)}
    assert reshard_store(saved, tmp_path / 'out', 50).written == 3
    reshard_store(saved, tmp_path / 'at_once', 50)
    assert contents(tmp_path / 'out') == contents(tmp_path / 'at_once')


def test_what_is_refused(saved, tmp_path):
    path = tmp_path / 'store'
    shutil.copytree(saved, path)
    with pytest.raises(StoreError, match='would lie in'):
        reshard_store(path, path / 'inside', 50)
    with pytest.raises(StoreError, match='samples_per_shard must be a whole number'):
        reshard_store(path, tmp_path / 'zero', 0)
    with pytest.raises(StoreError, match=r'View 1 .* \(it has none of its shards\)'):
        reshard_store(path, tmp_path / 'out', 50, views=[1])
    (path / 'view-0002' / 'shard-00004.logits').unlink()
    with pytest.raises(StoreError, match=r'View 2 .* \(it has 9 of 10 of its shards\)'):
        reshard_store(path, tmp_path / 'out', 50)
    assert reshard_store(path, tmp_path / 'out', 50, views=[0]).views == [0]
    save(tmp_path / 'foreign', base_seed=3)
    with pytest.raises(StoreError, match='is another one than asked for'):
        reshard_store(path, tmp_path / 'foreign', 50, views=[0])
    data = bytearray((path / 'view-0000' / 'shard-00005.logits').read_bytes())
    data[100] ^= 1
    (path / 'view-0000' / 'shard-00005.logits').write_bytes(data)
    with pytest.raises(StoreError, match='the checksum of samples 80 to 87 in view 0 is wrong'):
        reshard_store(path, tmp_path / 'damaged', 50, views=[0])
    assert not [f for f in verify_store(tmp_path / 'damaged') if f.problem]
