import pytest

from mmtinyvit.datasets import MapLabel
from mmtinyvit.errors import UserError


def test_labels_become_the_teachers():
    mapped = MapLabel([0, 217, 482])
    assert [mapped(dict(gt_label=i, img_path='x'))['gt_label'] for i in range(3)] == [0, 217, 482]
    assert mapped(dict(gt_label=1, img_path='x')) == dict(gt_label=217, img_path='x')


@pytest.mark.parametrize('label', [-1, 3])
def test_a_label_that_is_not_listed(label):
    with pytest.raises(UserError, match=f'photo.png has the label {label}'):
        MapLabel([0, 217, 482])(dict(gt_label=label, img_path='photo.png'))
