"""Stores at URLs: the same values, each file fetched once, never half a file, and one sentence when something fails."""
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import fsspec
import pytest
from store_teacher import KEYS, contents, read_view, save

from mmtinyvit.store import LogitStore, StoreError, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.summary import describe_sample, describe_store
from mmtinyvit.store.cache import cache_folder
from mmtinyvit.store.folders import is_url


def same(a, b):
    return all((x is None and y is None) or (x == y).all() for x, y in zip(a, b, strict=True))


def upload(source, url, name):
    system, path = fsspec.core.url_to_fs(url)
    system.put_file(str(source), f'{path}/{name}')


# ---------------------------------------------------------------- the same store
@pytest.mark.parametrize('kind', ['file', 'memory', 's3'])
def test_it_reads_as_the_folder_does(kind, saved, tmp_path, request):
    if kind == 's3':
        url = f'{request.getfixturevalue("bucket")}/a/store/'
        copy_store(saved, url)
    elif kind == 'file':
        url = f'file://{saved}'
    else:
        url = f'memory://{tmp_path.name}/store'
        copy_store(saved, url)
    here, there = LogitStore(saved), LogitStore(url, cache=tmp_path / 'cache')
    assert (there.views, there.coverage(), len(there)) == (here.views, here.coverage(), len(here))
    assert there.manifest == here.manifest and there.root == url.rstrip('/')
    assert there.key(149) == KEYS[149] and there.canaries(2, 9) == here.canaries(2, 9)
    assert all(same(there.read(view, KEYS), here.read(view, KEYS)) for view in (0, 2))
    assert describe_sample(there, KEYS[3]) == describe_sample(here, KEYS[3])
    told, known = describe_store(url), describe_store(saved)
    for name in ('path', 'bytes_on_disk'):
        assert told.pop(name) != '' and known.pop(name) != ''
    assert told == known
    findings = list(verify_store(url))
    assert len(findings) == 23 and not any(finding.problem for finding in findings)
    kept, = (tmp_path / 'cache' / 'stores').iterdir()
    assert contents(kept) == contents(saved)  # what is kept is itself a store


def test_urls_and_paths():
    assert all(map(is_url, ('s3://b/s', 'memory://s', 'gs://b', 'hf://datasets/a/b', 'simplecache::s3://b/s')))
    assert not any(map(is_url, ('data/store', '/data/s3:/x', 'C:', 'a::b/c'[1:], '')))


# ---------------------------------------------------------------- what is fetched, and how often
def test_each_file_is_fetched_once(url, storage):
    store = LogitStore(url)
    assert store.views == [0, 2] and store.coverage()[0].present == 10
    assert len(storage.taken()) <= 5  # a connection, the manifest and two listings
    for key in KEYS[:40]:
        store.read(2, [key])
    assert sorted(path.rpartition('/')[2] for path in storage.downloads('')) == [
        'samples.idx', 'samples.txt', *(f'shard-0000{i}.logits' for i in range(3))]
    assert storage.taken() == []
    LogitStore(url).read(2, KEYS[:48])
    assert [path.rpartition('/')[2] for path in storage.downloads('')] == ['manifest.json']


def test_processes_share_a_cache(url, saved, storage):
    store = LogitStore(url)
    store.read(0, KEYS[:1])  # the connection of this process must not be used by the others
    assert len(pickle.dumps(store)) < 1000
    storage.taken()
    here = LogitStore(saved).read(2, KEYS)
    with ProcessPoolExecutor(3, mp_context=get_context('fork')) as pool:
        found = list(pool.map(read_view, [store, url, store, url]))
    assert all(same(here, there) for there in found)
    assert sorted(storage.downloads()) == sorted({f'/{url[5:]}/view-0002/shard-{i:05d}.logits' for i in range(10)})


def test_a_forked_child_talks_for_itself(url, saved):
    store = LogitStore(url)
    store.read(0, KEYS[:1])
    child = os.fork()
    if not child:
        ok = same(store.read(2, KEYS), LogitStore(saved).read(2, KEYS)) and store.views == [0, 2]
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_least_recently_used_shards_go_first(url, storage, cache):
    shard = 64 + 16 * 9 + 2 * 4 + 24 + 4
    store = LogitStore(url, max_open_shards=1, cache_bytes=3 * shard)
    for i in (0, 1, 2):
        store.read_positions(0, [16 * i])
        os.utime(next(cache.glob(f'stores/*/view-0000/shard-0000{i}.logits')), ns=(10**9 + i, 10**9 + i))
    store.read_positions(0, [0])  # used again
    store.read_positions(0, [48])
    assert sorted(path.name for path in cache.glob('stores/*/*/*')) == [
        f'shard-0000{i}.logits' for i in (0, 2, 3)]
    LogitStore(url).read_positions(2, range(150))  # no limit
    assert len(list(cache.glob('stores/*/*/*'))) == 13
    LogitStore(url, cache_bytes=5 * shard)
    assert len(list(cache.glob('stores/*/*/*'))) == 5
    LogitStore(url, cache_bytes=1).read_positions(0, range(150))
    assert [path.name for path in cache.glob('stores/*/*/*')] == ['shard-00009.logits']  # one is always kept


def test_a_shard_that_another_process_drops_is_fetched_again(url, storage, monkeypatch):
    store, real, dropped = LogitStore(url), os.replace, []

    def replace_and_drop(source, target):
        real(source, target)
        if not dropped:
            dropped.append(os.unlink(target))

    store.key(0)
    storage.taken()
    monkeypatch.setattr(os, 'replace', replace_and_drop)
    assert store.read_positions(0, [0]).index.shape == (1, 5)
    assert len(dropped) == 1 and len(storage.downloads()) == 2


def test_the_cache_may_be_removed_at_any_time(url, cache):
    store = LogitStore(url)
    expected = store.read(2, KEYS[:1])
    shutil.rmtree(cache)
    assert same(store.read(0, KEYS[:1]), LogitStore(url).read(0, KEYS[:1]))
    assert same(store.read(2, KEYS[:1]), expected)


def test_where_the_cache_is(tmp_path, monkeypatch, url):
    monkeypatch.delenv('MMTINYVIT_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_folder() == tmp_path / 'xdg' / 'mmtinyvit'
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'variable'))
    assert (cache_folder(), cache_folder('given').name) == (tmp_path / 'variable', 'given')
    for size in ('0', '-1', 'much', '1e9'):
        monkeypatch.setenv('MMTINYVIT_CACHE_BYTES', size)
        with pytest.raises(StoreError, match=f'whole number of bytes from 1, not {size!r}'):
            LogitStore(url)


# ---------------------------------------------------------------- another store at the same URL
def test_stores_at_the_same_url_are_not_mixed(own_url, tmp_path, cache):
    old = LogitStore(own_url)
    old.read(0, KEYS[:1])
    save(tmp_path / 'new', views=(0,), base_seed=1)
    fsspec.filesystem('s3').rm(own_url, recursive=True)
    copy_store(tmp_path / 'new', own_url)
    with pytest.raises(StoreError, match=f'{own_url}/view-0000/shard-00003.logits did not arrive whole, or is damaged '
                                         r'there: s3://\S+ belongs to another store'):
        old.read_positions(0, [48])
    new = LogitStore(own_url)
    assert new.base_seed == 1 and same(new.read(0, KEYS), LogitStore(tmp_path / 'new').read(0, KEYS))
    assert old.read(0, KEYS[:16]).index.shape == (16, 5)  # what was fetched before stays what it was
    assert len(list((cache / 'stores').iterdir())) == 2


# ---------------------------------------------------------------- damage
@pytest.mark.parametrize('spoil, words', [
    (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], 'checksum of samples 0 to 7'),
    (lambda data: data[:-1], 'was cut off'), (lambda data: b'<html>Please log in</html>', 'only 26 bytes')])
def test_a_damaged_download_is_refused_and_not_kept(url, saved, storage, cache, spoil, words):
    name = 'view-0000/shard-00000.logits'
    bad = spoil((saved / name).read_bytes())
    storage.fail = lambda method, path: ('200 OK', bad) if path.endswith(name) else None
    store = LogitStore(url)
    with pytest.raises(StoreError, match=f'{url}/{name} did not arrive whole, or is damaged there: .*{words}') as error:
        store.read(0, KEYS[:1])
    assert '.part' not in str(error.value)
    assert not list(cache.glob('stores/*/view-0000/*'))
    damaged = [finding for finding in verify_store(url) if finding.problem]
    assert [finding.path for finding in damaged] == [f'{url}/{name}'] and words in damaged[0].problem
    storage.fail = lambda method, path: None
    assert same(store.read(0, KEYS[:1]), LogitStore(saved).read(0, KEYS[:1]))


@pytest.mark.parametrize('name', ['samples.txt', 'samples.idx', 'manifest.json'])
def test_damaged_files_of_the_store(own_url, saved, tmp_path, name):
    data = bytearray((saved / name).read_bytes())
    data[70] ^= 1
    (tmp_path / 'bad').write_bytes(data)
    upload(tmp_path / 'bad', own_url, name)
    with pytest.raises(StoreError, match=f'{own_url}/{name}'):
        LogitStore(own_url).read(0, KEYS[:1])
    assert [finding.path for finding in verify_store(own_url) if finding.problem] == [f'{own_url}/{name}']


def test_what_a_killed_download_left_is_removed(url, cache):
    store = LogitStore(url)
    dead = next((cache / 'stores').iterdir()) / 'view-0000' / 'shard-00000.logits.abcd.part'
    dead.parent.mkdir()
    dead.write_bytes(b'half')
    store.read(0, KEYS[:1])
    assert [path.name for path in dead.parent.iterdir()] == ['shard-00000.logits']
