import pytest
from store_teacher import save

from mmtinyvit.store.admin.copying import copy_store


@pytest.fixture(scope='session')
def saved(tmp_path_factory):
    """A complete store of views 0 and 2; not to be changed."""
    path = tmp_path_factory.mktemp('saved') / 'store'
    save(path, views=(0, 2))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of remote stores."""
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def url(bucket, saved, storage):
    """The store, in the bucket."""
    copy_store(saved, f'{bucket}/store')
    storage.taken()
    return f'{bucket}/store'
