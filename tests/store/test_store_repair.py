"""What is damaged goes, what is sound stays, and saving again gives the same store."""
import shutil

import pytest
from store_teacher import KEYS, contents, make_older, manifest, save

from mmtinyvit.store import LogitStore, LogitWriter, StoreError, verify_store
from mmtinyvit.store.admin.repair import repair_store


@pytest.fixture
def damaged(saved, tmp_path):
    """One flipped byte, one shard cut short, a lost index, and the leftovers of a killed process."""
    path = tmp_path / 'store'
    shutil.copytree(saved, path)
    flip(path / 'view-0000' / 'shard-00003.logits', 200)
    cut = path / 'view-0002' / 'shard-00000.logits'
    cut.write_bytes(cut.read_bytes()[:-1])
    (path / 'samples.idx').unlink()
    (path / '.lock').unlink()
    (path / 'view-0002' / 'shard-00001.logits.tmp').write_bytes(b'half')
    (path / 'view-0002' / 'shard-00004.logits.node-1-77.tmp').write_bytes(b'half')
    (path / 'manifest.json.tmp').write_bytes(b'{')
    (path / 'view-0002' / 'notes.tmp').write_bytes(b'not ours')
    return path


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def names(paths, root):
    return sorted(str(path.relative_to(root)) for path in paths)


def test_a_dry_run_says_what_and_changes_nothing(damaged):
    before = contents(damaged)
    found = repair_store(damaged)
    assert not found.done and found.needed and not found.problems and found.rebuild_index
    assert names(found.shards, damaged) == ['view-0000/shard-00003.logits', 'view-0002/shard-00000.logits']
    assert names(found.leftovers, damaged) == ['manifest.json.tmp', 'view-0002/shard-00001.logits.tmp',
                                               'view-0002/shard-00004.logits.node-1-77.tmp']
    assert found.incomplete_views == [0, 2]
    assert contents(damaged) == before and not (damaged / '.lock').exists()


def test_saving_after_repair_gives_the_undamaged_store(damaged, saved):
    found = repair_store(damaged, act=True)
    assert found.done and found.incomplete_views == [0, 2]
    assert not [finding for finding in verify_store(damaged) if finding.problem]
    with LogitWriter(damaged, manifest(), KEYS) as writer:
        assert [(unit.view, unit.shard) for unit in writer.missing([0, 2])] == [(0, 3), (2, 0)]
    save(damaged, views=(0, 2))
    (damaged / 'view-0002' / 'notes.tmp').unlink()
    assert contents(damaged) == contents(saved)
    again = repair_store(damaged, act=True)
    assert not again.needed and not again.incomplete_views


def test_shards_of_another_store_are_not_removed(saved, tmp_path):
    """Somebody's manifest in the wrong folder must not cost the records."""
    path = tmp_path / 'store'
    shutil.copytree(saved, path)
    save(tmp_path / 'other', views=(), base_seed=9)
    shutil.copy(tmp_path / 'other' / 'manifest.json', path / 'manifest.json')
    before = contents(path)
    found = repair_store(path, act=True)
    assert not found.needed and len(found.problems) == 20 and 'belongs to another store' in found.problems[0]
    assert contents(path) == before


def test_damaged_keys_are_reported(saved, tmp_path):
    path = tmp_path / 'store'
    shutil.copytree(saved, path)
    flip(path / 'samples.txt', 5)
    found = repair_store(path, act=True)
    assert not found.needed and len(found.problems) == 1 and 'samples.txt is damaged' in found.problems[0]


def test_the_index_of_an_older_store_is_made_again_as_it_was(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / 'store')
    make_older(path)
    before = contents(path)
    (path / 'samples.idx').unlink()
    assert repair_store(path, act=True).rebuild_index
    assert contents(path) == before and before['samples.idx'] != contents(saved)['samples.idx']


def test_nothing_is_taken_from_a_writer_at_work(damaged):
    repair_store(damaged, act=True)
    left = damaged / 'view-0002' / 'shard-00000.logits.tmp'
    left.write_bytes(b'being written')
    with LogitWriter(damaged, manifest(), KEYS) as writer:
        unit = writer.unit(2, 0)
        assert writer.claim(unit)
        assert not repair_store(damaged, act=True).leftovers and left.exists()
        writer.release(unit)
        assert names(repair_store(damaged, act=True).leftovers, damaged) == ['view-0002/shard-00000.logits.tmp']
        assert not left.exists()


def test_a_running_job_is_left_alone(saved, tmp_path):
    path = tmp_path / 'store'
    shutil.copytree(saved, path)
    with LogitWriter(path, manifest(), KEYS, exclusive=True), pytest.raises(StoreError, match='is being written by'):
        repair_store(path, act=True)
    with pytest.raises(StoreError, match='There is no store at'):
        repair_store(tmp_path / 'nowhere', act=True)
    assert not (tmp_path / 'nowhere').exists()
    assert len(LogitStore(path).views) == 2
