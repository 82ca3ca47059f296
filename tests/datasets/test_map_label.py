import shutil

import pytest

from mmtinyvit.datasets import ImageFolder, MapLabel
from mmtinyvit.errors import UserError


def test_labels_become_the_teachers():
    mapped = MapLabel([0, 217, 482])
    assert [mapped(dict(gt_label=i, img_path='x'))['gt_label'] for i in range(3)] == [0, 217, 482]
    assert mapped(dict(gt_label=1, img_path='x')) == dict(gt_label=217, img_path='x')


def test_by_name_within_a_dataset(photos, tmp_path):
    """Two folders may be one class of the teacher; names of the teacher's need not be listed."""
    root = shutil.copytree(photos, tmp_path / 'photos')
    for old, new in (('class_0', 'goldfish'), ('class_1', 'lab'), ('class_2', 'puppy')):
        (root / old).rename(root / new)
    mapped = dict(type='mmtinyvit.MapLabel', target='in1k', index=dict(lab='n02099712', puppy='Labrador_retriever'))
    dataset = ImageFolder(data_prefix=str(root), pipeline=[mapped])
    assert {dataset[i]['img_path'].split('/')[-2]: dataset[i]['gt_label'] for i in range(len(dataset))} == dict(
        goldfish=1, lab=208, puppy=208)
    with pytest.raises(UserError, match=r'target of 1,000 classes .*of 3 classes .goldfish, lab.* 2 classes .lab, pup'):
        ImageFolder(data_prefix=str(root), pipeline=[mapped | dict(index=None)])
    with pytest.raises(UserError, match='MapLabel finds classes by their names .*: set target'):
        MapLabel(dict(lab='n02099712'))
    with pytest.raises(UserError, match='was not told what the classes of the images are called'):
        MapLabel(target='in1k')(dict(gt_label=0, img_path='photo.png'))


@pytest.mark.parametrize('label', [-1, 3])
def test_a_label_that_is_not_listed(label):
    with pytest.raises(UserError, match=f'photo.png has the label {label}'):
        MapLabel([0, 217, 482])(dict(gt_label=label, img_path='photo.png'))
