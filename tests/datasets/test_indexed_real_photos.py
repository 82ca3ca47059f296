"""The index over real photos: folders and zip files of the same classes give the same decoded pixels, in RGB order."""
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtinyvit.datasets import ImageFolder, IndexedImages, LoadImage
from mmtinyvit.datasets.images.scan import index_images

DATA = Path(os.environ.get('MMTINYVIT_DATA', ''))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif('MMTINYVIT_DATA' not in os.environ, reason='MMTINYVIT_DATA names no folder of real photos'),
]


def test_thousand_classes_match_the_folder_scan(tmp_path):
    """Also the greyscale and CMYK photos among them, against PIL."""
    root = DATA / 'imagenet_sample/val'
    index_images(root, tmp_path / 'x')
    ours = IndexedImages(str(tmp_path / 'x'), str(root), num_classes=1000, pipeline=[LoadImage()])
    theirs = ImageFolder(data_root=str(root))
    assert len(ours) == len(theirs) == 1000
    assert list(ours.iter_sample_keys()) == [theirs[i]['sample_key'] for i in range(1000)]
    assert ours.get_gt_labels().tolist() == list(range(1000))
    for i in range(0, 1000, 25):
        sample = ours[i]
        with Image.open(sample['img_path']) as image:
            expected = np.asarray(image.convert('RGB'), np.int16)
        assert np.abs(sample['img'][..., ::-1] - expected).mean() < 1  # two JPEG decoders


def test_zip_files_of_real_photos(tmp_path):
    root = DATA / 'imagenette96/val'
    names = sorted(path.name for path in root.iterdir())[:2]
    for name in names:
        with zipfile.ZipFile(tmp_path / f'{name}.zip', 'w') as file:
            for path in (root / name).iterdir():
                file.write(path, path.name)
    index_images(root, tmp_path / 'folders.index', classes=names)
    index_images(tmp_path, tmp_path / 'images.index', layout='class-archives')
    load = [LoadImage()]
    folders = IndexedImages(str(tmp_path / 'folders.index'), str(root), pipeline=load)
    zips = IndexedImages(data_root=str(tmp_path), pipeline=load)
    assert list(folders.iter_sample_keys()) == list(zips.iter_sample_keys())
    assert len(zips) == 500
    for i in range(0, 500, 10):
        np.testing.assert_array_equal(folders[i]['img'], zips[i]['img'])
