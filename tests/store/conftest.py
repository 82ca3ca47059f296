import pytest
from store_teacher import save


@pytest.fixture(scope='session')
def saved(tmp_path_factory):
    """A complete store of views 0 and 2; not to be changed."""
    path = tmp_path_factory.mktemp('saved') / 'store'
    save(path, views=(0, 2))
    return path
