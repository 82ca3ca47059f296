"""Parquet files as the hub has them, converted into shards and read back through the index: same bytes, same labels."""
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmtinyvit.datasets import IndexedImages
from mmtinyvit.datasets.images import parquet_shards
from mmtinyvit.datasets.images.members import read_member
from mmtinyvit.datasets.images.parquet_shards import convert_parquet
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError

FORMATS = ('JPEG', 'PNG', 'WEBP')
SUFFIXES = ('.jpg', '.png', '.webp')
TOOL = 'dataset_converters/parquet_to_shards'
FEATURES = b'{"info": {"features": {"label": {"names": ["n01", "n02", "n03", "n04", "n05"], "_type": "ClassLabel"}}}}'


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, FORMATS[number % 3])
    return buffer.getvalue()


IMAGES = [encoded(number) for number in range(23)]
LABELS = [number * 7 % 5 for number in range(23)]


def write(path: Path, rows: slice, images: list | None = None, group: int = 4, **columns) -> None:
    """A file as the ``datasets`` library writes it, in small groups of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [dict(bytes=data, path='x.jpg') for data in IMAGES[rows]] if images is None else images
    table = pa.table(dict(image=structs, label=LABELS[rows], **columns))
    pq.write_table(table.replace_schema_metadata({b'huggingface': FEATURES}), path, row_group_size=group)


@pytest.fixture
def source(tmp_path) -> Path:
    write(tmp_path / 'hub/data/train-00000-of-00002.parquet', slice(0, 14))
    write(tmp_path / 'hub/data/train-00001-of-00002.parquet', slice(14, 23))
    write(tmp_path / 'hub/data/validation-00000-of-00001.parquet', slice(0, 2))
    return tmp_path / 'hub'


def files(source: Path) -> list[Path]:
    return sorted(source.rglob('train-*'))


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_same_bytes_and_labels_through_the_index(source, tmp_path, run_tool):
    out = tmp_path / 'w21p'
    done = run_tool(TOOL, source / 'data/train-*.parquet', '--out', out, '--samples-per-shard', 5)
    assert done.status == 0 and 'written now' in done.out, done.err
    assert sorted(path.name for path in out.glob('*.tar')) == [f'w21p-{number:06d}.tar' for number in range(5)]
    listed = run_tool('dataset_converters/index_images', out, '--classes', out / 'w21p_classes.txt', '--check')
    assert listed.status == 0 and 'the cls members' in listed.out, listed.err
    dataset = IndexedImages(data_root=str(out))
    samples = [dataset.get_data_info(row) for row in range(len(dataset))]
    assert [sample['gt_label'] for sample in samples] == LABELS
    assert dataset.CLASSES == ('n01', 'n02', 'n03', 'n04', 'n05')
    assert [read_member(sample['archive_member'], '') for sample in samples] == IMAGES
    assert [sample['sample_key'] for sample in samples] == [
        f'w21p-{row // 5:06d}/{row:09d}{SUFFIXES[row % 3]}' for row in range(23)]


@pytest.mark.parametrize(('size', 'group'), [(1, 1), (3, 4), (7, 100), (23, 4), (100, 5)])
def test_any_size_of_shards_and_groups(size, group, tmp_path):
    """Plain bytes instead of structs, no labels, and a file without rows in the middle."""
    for number, (start, stop) in enumerate(itertools.pairwise((0, 9, 9, 23))):
        table = pa.table(dict(jpg=pa.array(IMAGES[start:stop], pa.binary())))
        pq.write_table(table, tmp_path / f'{number}.parquet', row_group_size=group)
    out = tmp_path / 'out'
    summary = convert_parquet(sorted(tmp_path.glob('*.parquet')), out, 'web', 'jpg', samples_per_shard=size)
    assert summary == (23, -(-23 // size), -(-23 // size), 0, 23, None)
    found = []
    for path in sorted(out.glob('*.tar')):
        with tarfile.open(path) as archive:
            found += [archive.extractfile(member).read() for member in archive]
    assert found == IMAGES
    assert index_images(out, out / 'images.index').labels == 'none'


def test_an_interruption_is_gone_on_from(source, tmp_path, monkeypatch):
    whole = convert_parquet(files(source), tmp_path / 'whole', 'web', samples_per_shard=5)
    assert whole.num_written == 5
    real, seen = parquet_shards._suffix, []

    def stop(data: bytes) -> str | None:
        seen.append(data)
        if len(seen) == 13:
            raise KeyboardInterrupt
        return real(data)

    monkeypatch.setattr(parquet_shards, '_suffix', stop)
    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        convert_parquet(files(source), out, 'web', samples_per_shard=5)
    assert sorted(path.name for path in out.glob('*.tar')) == ['web-000000.tar', 'web-000001.tar']
    assert convert_parquet(files(source), out, 'web', samples_per_shard=5).num_written == 3
    assert contents(out) == contents(tmp_path / 'whole')
    assert seen[13:] == IMAGES[10:]
    with pytest.raises(UserError, match='holds shards of other files, .* or of another size'):
        convert_parquet(files(source), out, 'web', samples_per_shard=6)
    with pytest.raises(UserError, match='holds shards of other files'):
        convert_parquet(files(source)[:1], out, 'web', samples_per_shard=5)


@pytest.mark.parametrize('change', ['images', 'labels'])
def test_a_replaced_file_is_not_mixed_with_the_old_one(change, tmp_path):
    """Of the same name, size and number of rows; the footers differ by the range of the images, not by the labels."""
    path, out = tmp_path / 'x.parquet', tmp_path / 'out'

    def replace(images: list[bytes], labels: list[int]) -> int:
        pq.write_table(pa.table(dict(image=images, label=labels)), path, compression='none', use_dictionary=False)
        return path.stat().st_size

    size = replace([b'BM11', b'BM12', b'BM13'], [0, 1, 2])
    os.utime(path, ns=(0, 0))
    convert_parquet([path], out, 'web', samples_per_shard=1)
    (out / 'web-000001.tar').unlink()
    before = contents(out)
    if change == 'images':
        assert replace([b'BM21', b'BM22', b'BM23'], [0, 1, 2]) == size
        os.utime(path, ns=(0, 0))
    else:
        assert replace([b'BM11', b'BM12', b'BM13'], [0, 2, 1]) == size
    with pytest.raises(UserError, match=r'of files that were replaced since.*remove web\.json alone'):
        convert_parquet([path], out, 'web', samples_per_shard=1)
    assert contents(out) == before
    (out / 'web.json').unlink()
    assert convert_parquet([path], out, 'web', samples_per_shard=1).num_written == 1


@pytest.mark.parametrize('text', ['', 'not json', '\xff', '[]', 'null'])
def test_a_record_that_is_none(text, source, tmp_path):
    (tmp_path / 'web.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(UserError, match=r'web\.json (is damaged or none of ours|says)'):
        convert_parquet(files(source), tmp_path, 'web')


CHILD = """
import os, sys
from mmtinyvit.datasets.images.parquet_shards import convert_parquet
def on_progress(done, _):
    if done == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
print(convert_parquet(sys.argv[3:], sys.argv[2], 'web', samples_per_shard=5, on_progress=on_progress).num_written)
"""


def child(kill_at: int, out: Path, source: Path) -> subprocess.CompletedProcess:
    """Another process converts the same files, and is killed at a row."""
    return subprocess.run([sys.executable, '-c', CHILD, str(kill_at), out, *files(source)], capture_output=True)


def test_two_processes_may_write_the_same_shards(source, tmp_path, monkeypatch):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    convert_parquet(files(source), whole, 'web', samples_per_shard=5)
    real, seen = parquet_shards._suffix, []

    def other_process(data: bytes) -> str | None:
        seen.append(data)
        if len(seen) == 8:  # in the second shard
            assert child(-1, out, source).stdout.split()[-1] == b'4'
            assert contents(out) == contents(whole)
        return real(data)

    monkeypatch.setattr(parquet_shards, '_suffix', other_process)
    assert convert_parquet(files(source), out, 'web', samples_per_shard=5).num_written == 2
    assert contents(out) == contents(whole)


def test_nothing_is_left_of_a_killed_process(source, tmp_path):
    out = tmp_path / 'out'
    assert child(8, out, source).returncode == -signal.SIGKILL
    assert len([name for name in contents(out) if name.endswith('.tmp')]) == 1
    assert convert_parquet(files(source), out, 'web', samples_per_shard=5).num_written == 4
    convert_parquet(files(source), tmp_path / 'whole', 'web', samples_per_shard=5)
    assert contents(out) == contents(tmp_path / 'whole')


def test_each_file_once(source, tmp_path, run_tool, monkeypatch):
    """As a hub's cache has it: blobs, and a snapshot of links to them per revision."""
    real = files(source)
    for revision in ('r1', 'r2'):
        (tmp_path / f'cache/snapshots/{revision}').mkdir(parents=True)
        for path in real:
            (tmp_path / f'cache/snapshots/{revision}/{path.name}').symlink_to(path)
    monkeypatch.chdir(tmp_path)
    done = run_tool(TOOL, 'cache', tmp_path / 'cache', Path('hub/data', real[0].name), '--out', tmp_path / 'out')
    assert done.status == 0, done.err
    recorded = json.loads((tmp_path / 'out/out.json').read_text())
    assert [file[0] for file in recorded['files']] == [path.name for path in real]
    with tarfile.open(tmp_path / 'out/out-000000.tar') as archive:
        assert [archive.extractfile(name).read() for name in archive.getnames()[::2]] == IMAGES


@pytest.mark.parametrize(('labels', 'members'), [
    ([0, -1, None, 3], ['0', None, None, '3']), (['cat', '', None, 'dog'], ['cat', None, None, 'dog']),
    ([-1] * 4, [None] * 4)])
def test_no_label_is_no_cls(labels, members, tmp_path, run_tool):
    """Test splits of the hub have -1."""
    pq.write_table(pa.table(dict(image=IMAGES[:4], label=labels)), tmp_path / 'x.parquet')
    done = run_tool(TOOL, tmp_path / 'x.parquet', '--out', tmp_path / 'out')
    assert done.status == 0 and 'without a label' in done.out, done.err
    with tarfile.open(tmp_path / 'out/out-000000.tar') as archive:
        found = {name: archive.extractfile(name).read().decode() for name in archive.getnames() if '.cls' in name}
    assert found == {f'{row:09d}.cls': text for row, text in enumerate(members) if text is not None}
    if any(members):
        with pytest.raises(UserError, match='2 images of out-000000.tar have no label'):
            index_images(tmp_path / 'out', tmp_path / 'images.index')
    assert index_images(tmp_path / 'out', tmp_path / 'images.index', labels='none').num_images == 4


@pytest.mark.parametrize('labels', [['cat', 'dog', 'cat'], [3, 1, 3]])
def test_columns_that_are_dictionaries(labels, tmp_path):
    """Arrow writes the type of a column of categories, such as pandas has, into the file."""
    columns = dict(image=pa.array(IMAGES[:3]).dictionary_encode(), label=pa.array(labels).dictionary_encode())
    pq.write_table(pa.table(columns), tmp_path / 'x.parquet')
    convert_parquet([tmp_path / 'x.parquet'], tmp_path / 'out', 'web')
    with tarfile.open(tmp_path / 'out/web-000000.tar') as archive:
        found = [archive.extractfile(member).read() for member in archive]
    assert found[::2] == IMAGES[:3] and found[1::2] == [str(label).encode() for label in labels]


def test_rows_that_are_the_same_have_keys_of_their_own(tmp_path):
    """The path in the column, and a key of WebDataset's, may stand in several rows; the number of the row does not."""
    same = [dict(bytes=IMAGES[0], path='x.jpg')] * 4
    for name in ('a', 'b'):
        write(tmp_path / f'{name}.parquet', slice(0, 4), same, __key__=['x'] * 4)
    convert_parquet(sorted(tmp_path.glob('*.parquet')), tmp_path / 'out', 'web', samples_per_shard=6)
    index_images(tmp_path / 'out', tmp_path / 'out/images.index')
    dataset = IndexedImages(data_root=str(tmp_path / 'out'))
    assert len({dataset.get_data_info(row)['sample_key'] for row in range(len(dataset))}) == len(dataset) == 8


def test_class_names_keep_their_numbers(tmp_path):
    """A name that is no line of text leaves no gap: then there is no list."""
    features = json.dumps(dict(info=dict(features=dict(label=dict(names=['a', 'b\nc', 'd'])))))
    table = pa.table(dict(image=IMAGES[:2], label=[0, 2])).replace_schema_metadata({'huggingface': features})
    pq.write_table(table, tmp_path / 'x.parquet')
    assert convert_parquet([tmp_path / 'x.parquet'], tmp_path / 'out', 'web').classes is None


def test_labels_that_are_names(tmp_path):
    write(tmp_path / 'x.parquet', slice(0, 4), wnid=['n02', 'n01', 'n02', 'n09'])
    convert_parquet([tmp_path / 'x.parquet'], tmp_path / 'out', 'web', label='wnid')
    index_images(tmp_path / 'out/web-000000.tar', tmp_path / 'out/images.index')
    dataset = IndexedImages(data_root=str(tmp_path / 'out'))
    assert dataset.CLASSES == ('n01', 'n02', 'n09') and dataset.get_gt_labels().tolist() == [1, 0, 1, 2]
    assert not (tmp_path / 'out/web_classes.txt').exists()


def test_no_known_format(tmp_path):
    """It is for the index to reject."""
    images = [dict(bytes=data, path=None) for data in (IMAGES[0], b'GIF89a', b'BM')]
    write(tmp_path / 'x.parquet', slice(0, 3), images)
    assert convert_parquet([tmp_path / 'x.parquet'], tmp_path / 'out', 'web').num_unknown == 1
    with tarfile.open(tmp_path / 'out/web-000000.tar') as archive:
        assert archive.getnames()[::2] == ['000000000.jpg', '000000001.jpg', '000000002.bmp']


def test_what_goes_wrong_is_one_sentence(source, tmp_path, run_tool, monkeypatch):
    def refused(path: Path, *options: str) -> str:
        return run_tool(TOOL, path, '--out', tmp_path / 'out', *options).sentence

    assert 'nowhere is no parquet file, nor a folder' in refused(tmp_path / 'nowhere')
    assert 'has no column picture, but image, label' in refused(source, '--image', 'picture')
    assert 'has no column wnid' in refused(source, '--label', 'wnid')
    assert 'column label of' in refused(source, '--image', 'label')
    assert 'is no class number or name' in refused(source, '--label', 'image')
    assert 'must be at least 1' in refused(source, '--samples-per-shard', '0')
    path = next(source.rglob('train-*'))
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    assert 'cannot be read as a parquet file' in refused(path)
    path.write_bytes(data[:100] + bytes(200) + data[300:])
    assert 'cannot be read as a parquet file' in refused(path) or 'has no bytes' in refused(path)
    write(path, slice(0, 2), [dict(bytes=None, path='a.jpg')] * 2)
    assert 'Row 0 of' in refused(path, '--name', 'y') and 'not their paths alone' in refused(path, '--name', 'y')
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert 'hold no row' in refused(path)
    assert 'cannot be written' in run_tool(TOOL, source, '--out', next(source.rglob('val*'))).sentence
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    assert 'pip install "mmtinyvit[parquet]"' in refused(source)
