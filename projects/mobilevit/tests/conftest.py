import pytest
from tiny_flow import write_photos


@pytest.fixture(scope='session')
def photos_here(tmp_path_factory):
    """22 images in three classes; not to be changed."""
    return write_photos(tmp_path_factory.mktemp('photos_here'), 22)
