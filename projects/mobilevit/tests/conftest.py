import pytest
from tiny_flow import one_thread, write_photos


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


@pytest.fixture(scope='session')
def photos_here(tmp_path_factory):
    """22 images in three classes; not to be changed."""
    return write_photos(tmp_path_factory.mktemp('photos_here'), 22)
