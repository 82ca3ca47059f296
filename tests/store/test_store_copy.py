"""Copies: whole or in part, there and back, interrupted and repeated; a store only once everything is there."""
import os
import shutil
import threading
from pathlib import Path

import fsspec
import pytest
from store_teacher import KEYS, contents, manifest, save

from mmtinyvit.store import LogitStore, LogitWriter, StoreError
from mmtinyvit.store.admin.copying import copy_store


@pytest.fixture(params=['folder', 's3'])
def place(request, tmp_path):
    """Where a copy may go."""
    return f'{request.getfixturevalue("bucket")}/copy' if request.param == 's3' else str(tmp_path / 'copy')


def names(place):
    system, path = fsspec.core.url_to_fs(place)
    system.invalidate_cache()
    return sorted(name[len(path) + 1:] for name in system.find(path) if not name.endswith('.lock'))


def delete(place, name):
    system, path = fsspec.core.url_to_fs(place)
    system.rm(f'{path}/{name}')


def test_there_and_back_is_the_same_store(saved, place, tmp_path):
    before = contents(saved)
    sent = copy_store(saved, place)
    assert (sent.views, sent.copied, sent.present, sent.incomplete_views) == ([0, 2], 20, 0, [])
    assert sent.num_bytes == sum(len(data) for name, data in before.items() if 'shard' in name)
    copy_store(place, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved) == before
    again = copy_store(saved, place)
    assert (again.copied, again.present, again.num_bytes) == (0, 20, 0)


def test_some_views_now_and_more_later(saved, place, tmp_path):
    assert copy_store(saved, place, views=[2]).views == [2]
    store = LogitStore(place, cache=tmp_path / 'cache')
    assert store.views == [2] and store.read(2, KEYS).index.shape == (150, 5)
    with pytest.raises(StoreError, match='has no view 0'):
        store.read(0, KEYS[:1])
    more = copy_store(saved, place)
    assert (more.copied, more.present) == (10, 10) and store.views == [0, 2]
    assert (store.read(0, KEYS).index == LogitStore(saved).read(0, KEYS).index).all()
    with pytest.raises(StoreError, match=f'{saved} has no view 1 to copy'):
        copy_store(saved, place, views=range(3))


def test_an_incomplete_view_is_copied_as_it_is(saved, place, tmp_path):
    shutil.copytree(saved, tmp_path / 's')
    (tmp_path / 's' / 'view-0002' / 'shard-00003.logits').unlink()
    copied = copy_store(tmp_path / 's', place)
    assert (copied.copied, copied.incomplete_views) == (19, [2])
    assert LogitStore(place, cache=tmp_path / 'cache').coverage() == {0: (10, 10), 2: (9, 10)}
    assert copy_store(saved, place).copied == 1


def test_an_interrupted_copy_is_no_store_and_goes_on(saved, place, tmp_path):
    def some(jobs):
        yield from jobs[:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(saved, place, watch=some)
    there = names(place)
    assert len(there) >= 2 + 7 and 'manifest.json' not in there
    with pytest.raises(StoreError, match='There is no store at'):
        LogitStore(place, cache=tmp_path / 'cache')
    if '://' not in place:  # as a process leaves it that was killed
        (tmp_path / 'copy' / 'view-0000' / 'shard-00009.logits.tmp').write_bytes(b'half')
    finished = copy_store(saved, place)
    assert finished.present == len(there) - 2 and finished.copied == 20 - finished.present
    copy_store(place, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved)


def test_from_bucket_to_bucket_with_the_manifest_last(saved, bucket, storage, tmp_path):
    copy_store(saved, f'{bucket}/one')
    storage.taken()
    copy_store(f'{bucket}/one', f'{bucket}/two')
    sent = [path.partition('/two/')[2] for method, path in storage.taken() if method == 'PUT']
    assert sent[:2] == ['samples.txt', 'samples.idx'] and sent[-1] == 'manifest.json' and len(sent) == 23
    copy_store(f'{bucket}/two', tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved)


def test_half_an_upload_is_sent_again(saved, bucket, tmp_path):
    """Where uploads are not atomic, a killed copy may leave a cut file, or one of another store, under a right name."""
    save(tmp_path / 'other', views=(0,), base_seed=1)
    copy_store(saved, f'{bucket}/store')
    system = fsspec.filesystem('s3')
    for name in ('manifest.json', 'view-0000/shard-00001.logits'):
        delete(f'{bucket}/store', name)
    system.pipe_file(f'{bucket}/store/view-0000/shard-00002.logits', b'half')
    system.put_file(str(tmp_path / 'other/view-0000/shard-00003.logits'),
                    f'{bucket}/store/view-0000/shard-00003.logits')
    assert copy_store(saved, f'{bucket}/store').copied == 3
    copy_store(f'{bucket}/store', tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved)


@pytest.mark.parametrize('name', ['view-0002/shard-00004.logits', 'samples.txt', 'samples.idx'])
def test_damage_is_not_copied(saved, place, tmp_path, name):
    shutil.copytree(saved, tmp_path / 's')
    data = bytearray((saved / name).read_bytes())
    data[90] ^= 1
    (tmp_path / 's' / name).write_bytes(data)
    with pytest.raises(StoreError, match=f'{tmp_path}/s/{name} is damaged'):
        copy_store(tmp_path / 's', place)
    assert name not in names(place) and 'manifest.json' not in names(place)


@pytest.mark.parametrize('put', ['damaged', 'lost'])
def test_what_arrives_is_read_back(saved, bucket, monkeypatch, tmp_path, put):
    system = fsspec.filesystem('s3')
    real = system.put_file

    def bad(source, target):
        if target.endswith('shard-00003.logits'):
            if put == 'lost':
                return
            (tmp_path / 'bad').write_bytes(Path(source).read_bytes()[:-1] + b'x')
            source = tmp_path / 'bad'
        real(str(source), target)

    monkeypatch.setattr(system, 'put_file', bad)
    with pytest.raises(StoreError, match=f'{bucket}/s/view-0000/shard-00003.logits is not what was written there'):
        copy_store(saved, f'{bucket}/s', views=[0])
    assert 'manifest.json' not in names(f'{bucket}/s')


def test_what_is_in_the_way(saved, place, tmp_path):
    save(tmp_path / 'other', views=(0,), base_seed=1)
    copy_store(tmp_path / 'other', place)
    before = names(place)
    with pytest.raises(StoreError, match=f'another store at {place} .*base_seed: 0 != 1'):
        copy_store(saved, place)
    for name in before:
        delete(place, name)
    system, path = fsspec.core.url_to_fs(place)
    for name in ('thesis.tex', 'view-0000/shard-1.logits', 'view-0/shard-00000.logits'):
        system.makedirs(f'{path}/{name}'.rpartition('/')[0], exist_ok=True) if '://' not in place else None
        system.pipe_file(f'{path}/{name}', b'mine')
        with pytest.raises(StoreError, match=f'{place} is not a store and not empty .it has '):
            copy_store(saved, place)
        delete(place, name)


def test_onto_itself(saved, bucket, tmp_path):
    with pytest.raises(StoreError, match=f'would lie in {saved}'):
        copy_store(saved, saved / 'inside')
    with pytest.raises(StoreError, match='would lie in'):
        copy_store(saved, saved)
    copy_store(saved, f'{bucket}/s')
    with pytest.raises(StoreError, match='onto itself'):
        copy_store(f'{bucket}/s', f'{bucket}/s/')


def test_no_such_bucket(saved, bucket):
    with pytest.raises(StoreError, match='There is no place for s3://no-such-bucket/s/samples.txt .*make the bucket'):
        copy_store(saved, 's3://no-such-bucket/s')
    with pytest.raises(StoreError, match='There is no store at'):
        copy_store(f'{bucket}/nothing', 's3://no-such-bucket/s')


def test_a_store_that_is_being_written(saved, tmp_path):
    with LogitWriter(tmp_path / 's', manifest(), KEYS, exclusive=True):
        with pytest.raises(StoreError, match=f'{tmp_path}/s is being written by process {os.getpid()}'):
            copy_store(saved, tmp_path / 's')
    (tmp_path / 'file').touch()
    with pytest.raises(StoreError, match='in the way and is not a folder'):
        copy_store(saved, tmp_path / 'file')


def test_small_files_travel_together(saved, bucket, storage):
    """Several requests are on their way at a time: the time of a copy is not the sum of their delays."""
    together = threading.Barrier(2)

    def meet(method, path):
        if method == 'PUT' and path.endswith(('00000.logits', '00001.logits')):
            together.wait(30)  # only passes if another upload comes meanwhile

    storage.fail = meet
    assert copy_store(saved, f'{bucket}/s', views=[0]).copied == 10
