"""ImageFolder and ImageNet: mmpretrain's datasets with named samples and clear refusals."""
import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
from PIL import Image

from mmtinyvit.datasets import ImageFolder, ImageNet
from mmtinyvit.errors import UserError


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(['train/b/1.png', 'train/a/deep/2.png', 'train/a/3.png', 'val/a/4.png']):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(path)
    return tmp_path


def test_same_samples_as_mmpretrain_with_keys_below_the_split(root):
    config = dict(type='mmtinyvit.ImageFolder', data_root=str(root), data_prefix='train')
    ours, theirs = DATASETS.build(config), CustomDataset(data_root=str(root), data_prefix='train')
    samples = list(ours)
    assert [sample.pop('sample_key') for sample in samples] == ['a/3.png', 'a/deep/2.png', 'b/1.png']
    assert samples == list(theirs)
    assert ours.CLASSES == ('a', 'b')


def test_a_bad_sample_is_an_error_not_another_sample(root):
    seen = []

    def drop_second(results):
        seen.append(results['sample_key'])
        return None if results['sample_idx'] == 1 else results

    dataset = ImageFolder(data_root=str(root), data_prefix='train', pipeline=[drop_second])
    with pytest.raises(UserError, match='returned nothing for .*a/deep/2.png'):
        dataset[1]
    assert seen == ['a/deep/2.png'] and dataset[2]['sample_key'] == 'b/1.png'


def test_missing_empty_and_mismatched_folders(root):
    with pytest.raises(UserError, match='nowhere/train does not exist: get it from there.'):
        ImageNet(data_root='nowhere', split='train', source='get it from there.')
    with pytest.raises(UserError, match='nowhere does not exist: change data_root'):
        ImageFolder(data_root='nowhere')
    with pytest.raises(UserError, match=r'cannot be used: The number of subfolders \(2\)'):
        ImageNet(data_root=str(root), split='train')
    (root / 'bare/a').mkdir(parents=True)
    with pytest.raises(UserError, match='bare/ holds no image in a class folder: put files ending in .bmp'):
        ImageFolder(data_root=str(root / 'bare'))


def test_the_order_of_the_classes_is_that_of_the_labels(photos):
    names = ['class_2', 'class_0', 'class_1']
    dataset = ImageFolder(data_prefix=str(photos), metainfo=dict(classes=names))
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(names[info['gt_label']] == info['sample_key'].split('/')[0] for info in infos)
    assert [info['sample_key'] for info in infos] == sorted(info['sample_key'] for info in infos)
    other = ImageFolder(data_prefix=str(photos), metainfo=dict(classes=['one', 'two', 'three']))
    assert [other.get_data_info(i)['gt_label'] for i in (0, 13)] == [0, 2]
