"""What can go wrong with a store at a URL, each in one sentence."""
import errno
import os
import sys
from pathlib import Path

import fsspec
import pytest
from store_teacher import KEYS, manifest

from mmtinyvit.store import LogitStore, LogitWriter, StoreError
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store


def test_what_is_not_there(own_url, bucket, tmp_path):
    with pytest.raises(StoreError, match=f'There is no store at {bucket}/x .it has no manifest.json; .*check the URL'):
        LogitStore(f'{bucket}/x')
    with pytest.raises(StoreError, match='s3://no-such-bucket/x .*The specified bucket does not exist'):
        LogitStore('s3://no-such-bucket/x')
    with pytest.raises(StoreError, match=f'{own_url} has no view 1 .asked for .*{KEYS[5]}.*; it has the views 0, 2'):
        LogitStore(own_url).read(1, [KEYS[5]])
    fsspec.filesystem('s3').rm(f'{own_url}/view-0000/shard-00004.logits')
    with pytest.raises(StoreError, match=f'View 0 of the store {own_url} lacks shard 4'):
        LogitStore(own_url).read(0, [KEYS[70]])
    assert LogitStore(own_url).coverage()[0] == (9, 10)
    fsspec.filesystem('s3').rm(f'{own_url}/samples.idx')
    with pytest.raises(StoreError, match=f'{own_url}/samples.idx is not there'):
        LogitStore(own_url, cache=tmp_path / 'empty').key(0)


def test_what_is_not_allowed(url, storage):
    denied = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
    store = LogitStore(url)
    storage.fail = lambda method, path: ('403 Forbidden', denied) if '0000' in path else None
    with pytest.raises(StoreError, match=f'not allowed to read {url}/view-0000/shard-00000.logits with the cred'):
        store.read_positions(0, [0])
    storage.fail = lambda method, path: ('403 Forbidden', denied)
    with pytest.raises(StoreError, match=f'not allowed to list {url} with the credentials in use'):
        store.coverage()


def test_no_credentials(url, monkeypatch):
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    type(fsspec.filesystem('s3')).clear_instance_cache()
    try:
        with pytest.raises(StoreError, match=f'no credentials to read {url} .*: for S3 set AWS_ACCESS_KEY_ID'):
            LogitStore(url)
    finally:
        type(fsspec.filesystem('s3')).clear_instance_cache()


def test_the_network_fails_in_mid_read(url, storage, monkeypatch):
    import aiohttp

    async def fail(self, *args):
        raise aiohttp.ClientPayloadError('Response payload is not completed')

    store = LogitStore(url)
    monkeypatch.setattr(type(fsspec.filesystem('s3')), 'retries', 1, raising=False)
    monkeypatch.setattr('aiohttp.streams.StreamReader.read', fail)
    with pytest.raises(StoreError, match=f'failed to read {url}/view-0000/shard-00000.logits .*check the network'):
        store.read_positions(0, [0])


@pytest.mark.parametrize('code, words', [
    (errno.ENOSPC, 'The disk of the cache .* is full .*MMTINYVIT_CACHE_BYTES'), (errno.EIO, 'failed to read .* error')])
def test_a_failing_disk(url, cache, monkeypatch, code, words):
    store = LogitStore(url)

    def fail(remote, local):
        with open(local, 'wb') as file:
            file.write(b'half')
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fsspec.filesystem('s3'), 'get_file', fail)
    with pytest.raises(StoreError, match=words):
        store.read_positions(0, [0])
    assert not list(cache.glob('stores/*/view-0000/*'))


def test_a_cache_that_cannot_be(url, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(StoreError, match=f'The cache {tmp_path}/file/cache cannot be used .*MMTINYVIT_CACHE'):
        LogitStore(url, cache=tmp_path / 'file' / 'cache')


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, 'fsspec.core', None)
    with pytest.raises(StoreError, match=r'needs fsspec, and that is not installed: pip install "mmtinyvit\[remote\]"'):
        LogitStore('s3://bucket/store')
    monkeypatch.undo()
    with pytest.raises(StoreError, match='fsspec cannot open nonsense://x .Protocol not known: nonsense'):
        LogitStore('nonsense://x')


def test_nothing_is_written_there(url, saved, tmp_path, storage):
    words = f'run "mmtinyvit store copy FOLDER {url}"'
    with pytest.raises(StoreError, match=words):
        LogitWriter(url, manifest(), KEYS)
    with pytest.raises(StoreError, match='in a folder of this machine'):
        LogitWriter(Path(url), manifest(), KEYS)
    with pytest.raises(StoreError, match=words):
        repair_store(url)
    with pytest.raises(StoreError, match=f'copy it here first, with "mmtinyvit store copy {url} FOLDER"'):
        merge_stores([saved, url], tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and storage.taken() == []
