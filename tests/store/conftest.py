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


@pytest.fixture(scope='session')
def published(saved, storage):
    """The store, in a bucket; not to be changed."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        fsspec.filesystem('s3').mkdir('published')
        copy_store(saved, 's3://published/store')
    return 's3://published/store'


@pytest.fixture
def url(published, bucket, storage):
    """The store in a bucket, and an empty cache; not to be changed."""
    storage.taken()
    return published


@pytest.fixture
def own_url(saved, bucket):
    """The store in a bucket of its own."""
    copy_store(saved, f'{bucket}/store')
    return f'{bucket}/store'
