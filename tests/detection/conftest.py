import pytest
from tiny_detection import write_classifier, write_rectangles


@pytest.fixture(scope='session')
def rectangles(tmp_path_factory):
    """A COCO folder with two images to train on and two to test on; not to be changed."""
    return write_rectangles(tmp_path_factory.mktemp('rectangles') / 'coco', 2, 2)


@pytest.fixture(scope='session')
def classifiers(tmp_path_factory):
    """A checkpoint of a classifier for an architecture, written when first asked for."""
    folder, known = tmp_path_factory.mktemp('classifiers'), {}

    def find(arch):
        name = str(arch)
        if name not in known:
            known[name] = write_classifier(folder / f'{len(known)}.pth', arch)
        return known[name]

    return find
