"""Links and special files in a store's folder: nothing outside of it is changed, and nothing waits."""
import os
import shutil
from functools import partial

import numpy as np
import pytest
from store_teacher import KEYS, PER_SHARD, SAMPLES, TOPK, contents, dense, manifest, save, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, StoreError, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.repair import repair_store
from mmtinyvit.store.layout import temporary_name
from mmtinyvit.store.pending import PendingRecords

LINKS = {'symbolic': os.symlink, 'hard': os.link}


@pytest.fixture
def precious(tmp_path):
    """Somebody's file, outside of the store."""
    (tmp_path / 'precious').write_text('of value')
    yield tmp_path / 'precious'
    assert (tmp_path / 'precious').read_text() == 'of value'


@pytest.fixture
def path(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / 's')


@pytest.mark.parametrize('kind', LINKS)
def test_a_linked_lock_is_refused(path, precious, kind):
    (path / '.lock').unlink()
    LINKS[kind](precious, path / '.lock')
    for exclusive in (False, True):
        with pytest.raises(StoreError, match=f'{path}/.lock is a link or a special file, .*: delete it'):
            LogitWriter(path, manifest(), KEYS, exclusive=exclusive)
    with pytest.raises(StoreError, match='.lock is a link'):
        repair_store(path, act=True)


@pytest.mark.parametrize('kind', LINKS)
@pytest.mark.parametrize('name', ['{}.tmp', '{}.node-1-77.tmp', None])
def test_a_linked_temporary_file_goes_and_its_target_stays(saved, tmp_path, precious, kind, name):
    path = tmp_path / 's'
    (path / 'view-0000').mkdir(parents=True)
    for file in ('manifest.json', 'samples.txt', 'samples.idx', 'view-0000/shard-00002.logits'):
        temporary = (path / file).with_name(temporary_name((path / file).name)) if name is None else (
            path / name.format(file))
        LINKS[kind](precious, temporary)
    shutil.move(path / 'view-0000', tmp_path / 'view')  # a folder that has no store yet may have no views
    LogitWriter(path, manifest(), KEYS).close()
    shutil.move(tmp_path / 'view', path / 'view-0000')
    save(path, views=(0, 2))
    assert contents(path) == contents(saved)


def test_a_linked_folder_of_a_view_is_read_but_not_written(path, saved, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    shutil.move(path / 'view-0002', elsewhere)
    os.symlink(elsewhere, path / 'view-0002')
    assert (LogitStore(path).read(2, KEYS).index == LogitStore(saved).read(2, KEYS).index).all()
    (elsewhere / 'shard-00001.logits').unlink()
    damaged = elsewhere / 'shard-00003.logits'
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (elsewhere / 'shard-00004.logits.tmp').write_text('half')
    before = contents(elsewhere)
    with pytest.raises(StoreError, match=f'{path}/view-0002 is a link, or no folder'):
        save(path, views=(2,))
    found = repair_store(path, act=True)
    assert not found.needed and len(found.problems) == 1 and f'{path}/view-0002 is a link.' in found.problems[0]
    save(tmp_path / 'other', views=[])
    shutil.rmtree(tmp_path / 'other' / 'view-0002', ignore_errors=True)
    os.symlink(elsewhere, tmp_path / 'other' / 'view-0002')
    with pytest.raises(StoreError, match='view-0002 is a link'):
        copy_store(saved, tmp_path / 'other', views=[2])
    assert contents(elsewhere) == before


def test_pending_records_do_not_leave_the_store(path, precious, tmp_path):
    meta = LogitStore(path).manifest

    def pending():
        return PendingRecords(path, meta.store_id, 1, TOPK, PER_SHARD, flush_seconds=0)

    def add(to):
        to.add(np.arange(SAMPLES), sparsify(dense(1, range(SAMPLES)), TOPK), {})
        to.flush()

    waiting = pending()
    add(waiting)
    files = sorted(waiting.folder.iterdir())
    for link in LINKS.values():
        files[0].unlink()
        link(precious, files[0])
        with pytest.raises(StoreError, match='is a link or a special file'):
            add(pending())
    shutil.move(path / '.pending', tmp_path / 'elsewhere')
    before = contents(tmp_path / 'elsewhere')
    os.symlink(tmp_path / 'elsewhere', path / '.pending')
    with pytest.raises(StoreError, match='.pending is a link'):
        add(waiting)
    with pytest.raises(StoreError, match='.pending is a link'):
        pending()
    assert contents(tmp_path / 'elsewhere') == before


SPECIAL = {'fifo': os.mkfifo, 'device': partial(os.symlink, '/dev/zero')}


@pytest.mark.parametrize('kind', SPECIAL)
@pytest.mark.parametrize('name', ['manifest.json', 'samples.txt', 'samples.idx', 'view-0000/shard-00001.logits'])
def test_special_files_are_refused_and_not_waited_for(path, tmp_path, name, kind):
    (path / name).unlink()
    SPECIAL[kind](path / name)
    assert [finding.path for finding in verify_store(path) if finding.problem] == [path / name]
    with pytest.raises(StoreError, match=f'{name} cannot be .*it is not a regular file'):
        LogitStore(path).read(0, KEYS)
    with pytest.raises(StoreError, match=f'{name} cannot be .*it is not a regular file'):
        copy_store(path, tmp_path / 'copy')


@pytest.mark.parametrize('kind', SPECIAL)
@pytest.mark.parametrize('name', ['.lock', 'view-0001'])
def test_special_files_are_not_written_to(path, name, kind):
    (path / name).unlink(missing_ok=True)
    SPECIAL[kind](path / name)
    with pytest.raises(StoreError, match=f'{name} is a link, or|{name} is a link or a special file'):
        save(path, views=[1])
    assert LogitStore(path).complete_views() == [0, 2] and LogitStore(path).num_bytes() > 0


def test_a_fifo_in_place_of_a_shard_is_repaired(path, saved):
    shard = path / 'view-0000/shard-00001.logits'
    shard.unlink()
    os.mkfifo(shard)
    assert repair_store(path, act=True).shards == [shard]
    save(path, views=(0, 2))
    assert contents(path) == contents(saved)
