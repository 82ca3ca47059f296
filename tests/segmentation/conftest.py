import pytest
from tiny_detection import write_classifier
from tiny_segmentation import TINY, write_masks, write_vit


@pytest.fixture(scope='session')
def rectangles(tmp_path_factory):
    """Four images to train on and two to test on, with masks of four classes; not to be changed."""
    return write_masks(tmp_path_factory.mktemp('masks'))


@pytest.fixture(scope='session')
def classifier(tmp_path_factory):
    """A checkpoint of a small TinyViT classifier."""
    return write_classifier(tmp_path_factory.mktemp('classifier') / 'tiny_vit.pth', TINY)


@pytest.fixture(scope='session')
def vit(tmp_path_factory):
    """A checkpoint of TinyMIM with a small ViT at 96 pixels."""
    return write_vit(tmp_path_factory.mktemp('tinymim') / 'vit.pth')
