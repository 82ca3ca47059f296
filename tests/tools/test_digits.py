"""The digits converter against scikit-learn's own arrays."""
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TOOL = 'dataset_converters/digits'


def files(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob('*.png')}


def test_every_digit_is_written_once_and_keeps_its_pixels(tmp_path, run_tool):
    assert run_tool(TOOL, tmp_path / 'out', '--size', 8, '--val', 50, '--test', 25).status == 0
    digits, meta = load_digits(), json.loads((tmp_path / 'out/meta.json').read_text())
    assert meta['images'] == {'test': 250, 'train': 1047, 'val': 500}
    found = files(tmp_path / 'out')
    assert sorted(path.stem for path in found.values()) == [f'{i:04d}' for i in range(1797)]
    for name, path in found.items():
        split, label, _ = name.split('/')
        assert int(label) == digits.target[int(path.stem)] and split in meta['images']
        np.testing.assert_array_equal(Image.open(path), np.round(digits.images[int(path.stem)] * 255 / 16))
    per_class = [sum(name.startswith(f'val/{digit}/') for name in found) for digit in range(10)]
    assert per_class == [50] * 10
    for split in ('val', 'test'):  # spread over the writers
        numbers = np.array([int(path.stem) for path in (tmp_path / 'out' / split).rglob('*.png')])
        thirds = np.histogram(numbers, 3, (0, 1797))[0] / len(numbers)
        assert (thirds > 0.28).all()


def test_writing_again_gives_the_same_bytes_or_does_nothing(tmp_path, run_tool):
    for name in ('one', 'two'):
        done = run_tool(TOOL, tmp_path / name)
        assert done.status == 0 and {'1,297', '500'} <= set(done.out.split())
    one, two = files(tmp_path / 'one'), files(tmp_path / 'two')
    assert len(one) == 1797 and one.keys() == two.keys()
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one)
    assert Image.open(one['val/0/0000.png']).size == (32, 32) and 'CC BY 4.0' in json.loads(
        (tmp_path / 'one/meta.json').read_text())['source']
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert run_tool(TOOL, tmp_path / 'one').status == 0
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    refused = run_tool(TOOL, tmp_path / 'one', '--size', 48)
    assert refused.sentence.startswith(f'{tmp_path}/one exists and holds something else')


def test_unwritable_place_and_too_many_held_out(tmp_path, run_tool):
    (tmp_path / 'file').write_text('')
    assert f'cannot be written to {tmp_path}/file/out' in run_tool(TOOL, tmp_path / 'file/out').sentence
    sentence = run_tool(TOOL, tmp_path / 'out', '--val', 174).sentence
    assert sentence.startswith('174 images of every digit cannot be held out: there are 174 of 8')
    assert [path.name for path in tmp_path.iterdir()] == ['file']
