"""Digits on canvases: boxes hold the ink, nothing overlaps, splits share no digit, and the tools end with sentences."""
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import init_default_scope
from PIL import Image

from mmtinyvit.errors import UserError

CONVERTERS = Path(__file__).resolve().parents[2] / 'tools/dataset_converters'
TOOL = runpy.run_path(str(CONVERTERS / 'digit_canvases.py'))
INK, SIDES, write_canvases = TOOL['INK'], TOOL['SIDES'], TOOL['write_canvases']


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits') / 'digits'
    runpy.run_path(str(CONVERTERS / 'digits.py'))['write_digits'](folder)
    return folder


@pytest.fixture(scope='module')
def canvases(digits):
    write_canvases(digits, digits.parent / 'canvases', 12, 5)
    return digits.parent / 'canvases'


def annotations(folder, split: str) -> tuple[list[dict], dict[int, list]]:
    content = json.loads((folder / f'annotations/{split}.json').read_text())
    boxes: dict[int, list] = {image['id']: [] for image in content['images']}
    for each in content['annotations']:
        boxes[each['image_id']].append(each)
    return content['images'], boxes


@pytest.mark.parametrize('split, count', [('train', 12), ('val', 5)])
def test_boxes_hold_the_ink(canvases, split, count):
    images, boxes = annotations(canvases, split)
    assert len(images) == count == len(list((canvases / split).iterdir()))
    for image in images:
        pixels = np.asarray(Image.open(canvases / split / image['file_name']))
        assert pixels.shape == (96, 96) == (image['height'], image['width'])
        covered = np.zeros((96, 96), int)
        for each in boxes[image['id']]:
            x, y, w, h = each['bbox']
            assert 1 <= each['category_id'] <= 10 and each['area'] == w * h and max(w, h) <= SIDES[1]
            covered[y:y + h, x:x + w] += 1
            inside = pixels[y:y + h, x:x + w] >= INK
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()  # tight
        assert covered.max() == 1 and 1 <= len(boxes[image['id']]) <= 5
        assert not (pixels[covered == 0] >= INK).any()  # all ink has a box


def test_mmdet_reads_them(canvases):
    init_default_scope('mmdet')
    dataset = CocoDataset(data_root=f'{canvases}/', ann_file='annotations/train.json', data_prefix=dict(img='train/'),
                          metainfo=dict(classes=tuple('0123456789')), pipeline=[])
    _, boxes = annotations(canvases, 'train')
    for info in (dataset.get_data_info(i) for i in range(len(dataset))):
        labels = [each['category_id'] - 1 for each in boxes[info['img_id']]]
        assert [instance['bbox_label'] for instance in info['instances']] == labels


def test_the_same_seed_gives_the_same_files(digits, canvases, tmp_path):
    meta = write_canvases(digits, tmp_path / 'again', 12, 5)
    counted = {split: sum(map(len, annotations(canvases, split)[1].values())) for split in ('train', 'val')}
    assert meta['boxes'] == counted
    for path in (path for path in canvases.rglob('*') if path.is_file()):
        assert path.read_bytes() == (tmp_path / 'again' / path.relative_to(canvases)).read_bytes(), path
    write_canvases(digits, tmp_path / 'other', 12, 5, seed=1)
    assert (tmp_path / 'other/train/0001.png').read_bytes() != (canvases / 'train/0001.png').read_bytes()


def test_errors(digits, canvases, tmp_path, run_tool):
    assert write_canvases(digits, canvases, 12, 5)['images'] == dict(train=12, val=5)  # there already: nothing to do
    with pytest.raises(UserError, match='holds something else'):
        write_canvases(digits, canvases, 13, 5)
    with pytest.raises(UserError, match='make no sense'):
        write_canvases(digits, tmp_path / 'new', 3, 3, size=32)
    sentence = run_tool('dataset_converters/digit_canvases', tmp_path / 'nothing', tmp_path / 'new').sentence
    assert sentence.startswith(f'{tmp_path}/nothing holds no digits: write them with `python tools/')
    (tmp_path / 'file').touch()
    ended = run_tool('dataset_converters/digit_canvases', digits, tmp_path / 'file/new', '--train', 1, '--val', 1)
    assert 'cannot be written to' in ended.sentence
    assert not (tmp_path / 'new').exists()


def test_the_tool(digits, tmp_path, run_tool):
    ended = run_tool('dataset_converters/digit_canvases', digits, tmp_path / 'new', '--train', 2, '--val', 1)
    assert ended.status == 0 and 'train' in ended.out and (tmp_path / 'new/meta.json').is_file()
