"""IndexedImages, its index and its two layouts, against the folders as PIL, zipfile and mmpretrain read them."""
import copy
import io
import pickle
import resource
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, ConcatDataset
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmpretrain.datasets import CustomDataset
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from mmtinyvit.datasets import IndexedImages, LoadImage
from mmtinyvit.datasets.images.index import ImageIndex, IndexBlock, write_index
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError, user_sentence

CLASSES = {'n01': ['b.JPEG', 'a.png', 'deep/c.jpg'], 'n02': [], 'n10': ['é ü.jpeg', 'z.png'], 'n03': ['only.png']}
KEYS = ['n01/a.png', 'n01/b.JPEG', 'n03/only.png', 'n10/z.png', 'n10/é ü.jpeg']  # without the nested file


def picture(seed: int, suffix: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG' if suffix == '.png' else 'JPEG')
    return buffer.getvalue()


@pytest.fixture
def folders(tmp_path) -> Path:
    root = tmp_path / 'folders'
    for number, (name, files) in enumerate(CLASSES.items()):
        (root / name).mkdir(parents=True)
        (root / name / 'readme.txt').write_text('no image')
        for file in files:
            (root / name / file).parent.mkdir(exist_ok=True)
            (root / name / file).write_bytes(picture(10 * number + len(file), Path(file).suffix))
    return root


@pytest.fixture
def flat(folders) -> Path:
    """The folders without the nested one, which zip files cannot express."""
    (folders / 'n01/deep/c.jpg').unlink()
    (folders / 'n01/deep').rmdir()
    return folders


@pytest.fixture
def zips(flat, tmp_path) -> Path:
    root = tmp_path / 'zips'
    root.mkdir()
    for number, name in enumerate(CLASSES):
        method = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
        with zipfile.ZipFile(root / f'{name}.zip', 'w', method) as file:
            file.writestr('notes.txt', 'no image')
            for path in sorted((flat / name).iterdir(), reverse=True):
                info = zipfile.ZipInfo(f'imagenet22k/{path.name}' if number else path.name)
                info.compress_type = file.compression
                file.writestr(info, path.read_bytes())
    return root


def indexed(root: Path, layout: str | None = None, **kwargs) -> IndexedImages:
    index_images(root, root / 'images.index', layout=layout)
    return IndexedImages(data_root=str(root), **kwargs)


def test_folders_match_what_mmpretrain_scans(folders):
    ours, theirs = indexed(folders), CustomDataset(data_root=str(folders))
    assert [ours[i]['img_path'] for i in range(len(ours))] == [theirs[i]['img_path'] for i in range(len(theirs))]
    assert ours.get_gt_labels().tolist() == theirs.get_gt_labels().tolist()
    assert ours.CLASSES == theirs.CLASSES == ('n01', 'n02', 'n03', 'n10')
    assert ours.class_to_idx == theirs.class_to_idx
    assert list(ours.iter_sample_keys())[2] == 'n01/deep/c.jpg'
    assert ours[3] == {'sample_key': 'n03/only.png', 'gt_label': 2, 'sample_idx': 3,
                       'img_path': str(folders / 'n03/only.png')}


def test_zip_files_give_the_keys_order_and_pixels_of_the_folders(flat, zips):
    load = LoadImage()
    in_folders, in_zips = indexed(flat, pipeline=[load]), indexed(zips, layout='class-archives', pipeline=[load])
    assert list(in_folders.iter_sample_keys()) == list(in_zips.iter_sample_keys()) == KEYS
    assert in_folders.index.keys_sha256 == in_zips.index.keys_sha256
    for ours, other in zip(in_folders, in_zips, strict=True):
        assert ours['gt_label'] == other['gt_label']
        np.testing.assert_array_equal(ours['img'], other['img'])
        assert ours['img'].shape == (9, 7, 3) and ours['ori_shape'] == (9, 7)
    assert in_zips[0]['img_path'] == str(zips / 'n01.zip/a.png')


def test_zip_with_different_local_and_central_headers(tmp_path):
    """Info-ZIP's local extra field is longer than the central one; the data starts after the local one."""
    data = picture(3, '.png')
    name = b'x.png'
    extra = b'UT\x09\x00' + bytes(9)
    local = struct.pack('<4sHHHHHIIIHH', b'PK\3\4', 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data),
                        len(name), len(extra)) + name + extra
    central = struct.pack('<4sHHHHHHIIIHHHHHII', b'PK\1\2', 20, 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data),
                          len(data), len(name), 0, 0, 0, 0, 0, 0) + name
    end = struct.pack('<4sHHHHIIH', b'PK\5\6', 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    (tmp_path / 'n01.zip').write_bytes(local + data + central + end)
    sample = indexed(tmp_path, layout='class-archives', pipeline=[LoadImage()])[0]
    np.testing.assert_array_equal(sample['img'][..., ::-1], np.asarray(Image.open(io.BytesIO(data))))


def test_index_bytes_do_not_depend_on_threads_or_creation_order(folders, tmp_path):
    index_images(folders, tmp_path / 'one', workers=1)
    index_images(folders, tmp_path / 'eight', workers=8)
    assert (tmp_path / 'one').read_bytes() == (tmp_path / 'eight').read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['eight', 'folders', 'one']  # no temporary file


def test_listed_classes_give_the_labels(folders, tmp_path):
    summary = index_images(folders, tmp_path / 'x', classes=['n10', 'n01'])
    dataset = IndexedImages(str(tmp_path / 'x'), str(folders))
    assert summary[:5] == ('folders', 'folders or archives', 2, 5, ()) and dataset.CLASSES == ('n10', 'n01')
    assert dataset.get_gt_labels().tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(UserError, match='1 of the 2 listed classes are not in .*n99'):
        index_images(folders, tmp_path / 'x', classes=['n01', 'n99'])
    with pytest.raises(UserError, match='names n01 twice'):
        index_images(folders, tmp_path / 'x', classes=['n10', 'n01', 'n01'])
    assert index_images(folders, tmp_path / 'x').empty_classes == ('n02',)


def test_subsets(flat):
    whole = indexed(flat)
    keys = list(whole.iter_sample_keys())
    assert list(IndexedImages(data_root=str(flat), indices=2).iter_sample_keys()) == keys[:2]
    assert list(whole.get_subset(-2).iter_sample_keys()) == keys[-2:]
    assert list(whole.get_subset([4, 0, 0]).get_subset([2, 0]).iter_sample_keys()) == [keys[0], keys[4]]
    assert whole.get_subset([4, 1])[-1]['sample_key'] == keys[1]
    assert whole.get_subset([4, 1])[-1]['sample_idx'] == 1
    assert whole.get_subset([4, 1]).get_cat_ids(0) == [3] and list(whole.iter_sample_keys()) == keys
    with pytest.raises(IndexError):
        whole[5]
    assert list(whole.get_subset(-3).get_subset([-1, 0]).iter_sample_keys()) == [keys[4], keys[2]]
    with pytest.raises(UserError, match='reach from -1 to 5, but the image index .* has 5 samples'):
        whole.get_subset([5, -1])
    with pytest.raises(UserError, match='No sample is left'):
        whole.get_subset(0)


def test_mmengine_wrappers_lazy_init_and_registry(flat):
    config = dict(type='mmtinyvit.IndexedImages', data_root=str(flat), lazy_init=True)
    index_images(flat, flat / 'images.index')
    lazy = ROOT_DATASETS.build(config)
    assert not lazy._fully_initialized and len(lazy) == 5
    both = ConcatDataset([lazy, copy.deepcopy(lazy)])
    assert len(both) == 10 and both[7]['sample_key'] == KEYS[2]
    assert len(ClassBalancedDataset(lazy, 0.5)) > 5
    assert 'Number of samples: \t5' in repr(lazy)


def test_workers(zips):
    """Forked ones; a spawned one is in test_views.py."""
    dataset = indexed(zips, layout='class-archives', pipeline=[LoadImage(), key_and_sum])
    loader = DataLoader(dataset, 2, num_workers=1, multiprocessing_context='fork', collate_fn=list)
    expected = [key_and_sum(dataset[i]) for i in range(5)]
    assert [sample for batch in loader for sample in batch] == expected
    assert [pickle.loads(pickle.dumps(dataset))[i] for i in range(5)] == expected


def key_and_sum(results: dict) -> dict:
    return {'key': results['sample_key'] if 'sample_key' in results else results['key'],
            'sum': int(results['img'].sum()) if 'img' in results else results['sum']}


def test_worker_error_is_one_sentence(zips):
    dataset = indexed(zips, layout='class-archives', pipeline=[LoadImage()])
    with zipfile.ZipFile(zips / 'n03.zip', 'a') as file:
        file.writestr('more.png', b'')
    with pytest.raises(UserError) as caught:
        try:
            dataset[2]
        except UserError:
            ExceptionWrapper(where='in DataLoader worker process 0').reraise()  # as torch does in the main process
    assert 'Original Traceback' in str(caught.value)
    assert user_sentence(caught.value).startswith(f'{zips}/n03.zip has ')


def test_pickles_as_a_path(flat):
    dataset = indexed(flat)
    assert len(pickle.dumps(dataset.index)) < 300
    assert list(pickle.loads(pickle.dumps(dataset)).iter_sample_keys()) == KEYS


def test_a_pipeline_that_returns_none_is_an_error(flat):
    with pytest.raises(UserError, match='returned nothing for .*n03/only.png'):
        indexed(flat, pipeline=[lambda results: None])[2]


def test_missing_and_stale_data(flat, tmp_path):
    with pytest.raises(UserError, match='The image folder nowhere does not exist: get it from the moon.'):
        IndexedImages(data_root='nowhere', source='get it from the moon.')
    with pytest.raises(UserError, match='images.index does not exist: write it once with "mmtinyvit index'):
        IndexedImages(data_root=str(flat))
    dataset = indexed(flat, pipeline=[LoadImage()])
    with pytest.raises(UserError, match='has 4 classes, but 21841 are expected'):
        IndexedImages(data_root=str(flat), num_classes=21841)
    (flat / KEYS[0]).unlink()
    with pytest.raises(UserError, match='n01/a.png, the first entry of the image index'):
        IndexedImages(data_root=str(flat))
    with pytest.raises(UserError, match=r'n01/a.png cannot be read \(No such file'):
        dataset[0]


def test_missing_and_damaged_zip(zips):
    dataset = indexed(zips, layout='class-archives', pipeline=[LoadImage()])
    path, member = zips / 'n01.zip', dataset.index.place(0, str(zips))[1]
    good = path.read_bytes()
    path.write_bytes(good[:member.offset + 5] + bytes([good[member.offset + 5] ^ 1]) + good[member.offset + 6:])
    with pytest.raises(UserError, match='n01.zip/a.png fails the checksum'):
        dataset[0]
    path.unlink()
    with pytest.raises(UserError, match='n01.zip/a.png cannot be read'):
        dataset[0]
    path.write_bytes(good[:100])
    with pytest.raises(UserError, match='n01.zip cannot be read as a zip file'):
        index_images(zips, zips / 'images.index', layout='class-archives')
    assert ImageIndex(zips / 'images.index').key(0) == KEYS[0]  # the failed run left the old index alone


def test_unusable_roots(tmp_path, folders, zips):
    (tmp_path / 'bare').mkdir()
    with pytest.raises(UserError, match='bare holds no folder, archive .* or image'):
        index_images(tmp_path / 'bare', tmp_path / 'x')
    with pytest.raises(UserError, match=r'zips holds no folder or image'):
        index_images(zips, tmp_path / 'x', layout='folders')
    with pytest.raises(UserError, match=r'folders holds no archive'):
        index_images(folders, tmp_path / 'x', layout='class-archives')
    (tmp_path / 'bare/n01').mkdir()
    with pytest.raises(UserError, match='No image lies under'):
        index_images(tmp_path / 'bare', tmp_path / 'x')
    with pytest.raises(UserError, match='is there already and no image index: name another place'):
        index_images(folders, folders / 'n01/b.JPEG/x')
    assert not (tmp_path / 'x').exists()
    with zipfile.ZipFile(zips / 'n01.zip', 'a') as file:
        file.writestr('again/a.png', b'')
    with pytest.raises(UserError, match='n01.zip holds two images that would be called n01/a.png'):
        index_images(zips, tmp_path / 'x', layout='class-archives')


def test_every_damaged_header_byte_and_every_truncation_is_refused(flat):
    path = flat / 'images.index'
    index_images(flat, path)
    good = path.read_bytes()
    header_start = int.from_bytes(good[8:16], 'little')
    for place in [*range(56), *range(header_start, len(good))]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1:])
        with pytest.raises(UserError, match='not an image index|truncated or damaged|has format'):
            ImageIndex(path)
    for size in range(0, len(good), 7):
        path.write_bytes(good[:size])
        with pytest.raises(UserError):
            ImageIndex(path)


@pytest.mark.parametrize('layout', ['folders', 'class-archives'])
def test_every_damaged_byte_of_the_entries_is_found(flat, zips, layout):
    root = flat if layout == 'folders' else zips
    path = root / 'images.index'
    index_images(root, path, layout=layout)
    good = path.read_bytes()
    index = ImageIndex(path)
    entries = [(key, index.labels[position], index.place(position, 'x')) for position, key in enumerate(index.keys())]
    for place in range(64, int.from_bytes(good[8:16], 'little')):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1:])
        index = ImageIndex(path)
        try:
            found = [(key, index.labels[position], index.place(position, 'x'))
                     for position, key in enumerate(index.keys())]
        except UserError as error:
            assert 'is damaged: write it again' in str(error)
        else:  # between two sections
            assert found == entries and good[place] == 0


def test_newer_format_is_refused(flat):
    path = flat / 'images.index'
    index_images(flat, path)
    path.write_bytes(b'MMTVIDX3' + path.read_bytes()[8:])
    with pytest.raises(UserError, match='has format 3, this library reads 1 to 2: upgrade mmtinyvit'):
        ImageIndex(path)


def test_a_large_index_opens_without_reading_its_entries(tmp_path):
    """One Python string per key would be over 16 MB; opening and three look-ups take next to nothing."""
    per_class, classes = 1000, [f'n{number:08d}' for number in range(200)]
    write_index(tmp_path / 'big', (
        IndexBlock([f'{name}/{name}_{image}.JPEG' for image in range(per_class)], np.full(per_class, label), {})
        for label, name in enumerate(classes)), 'folders', classes)
    assert (tmp_path / 'big').stat().st_size > 6e6
    tracemalloc.start()
    index = ImageIndex(tmp_path / 'big')
    keys = [index.key(position) for position in (0, 100_000, 199_999)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 and len(index) == 200_000  # bytes
    assert keys == ['n00000000/n00000000_0.JPEG', 'n00000100/n00000100_0.JPEG', 'n00000199/n00000199_999.JPEG']
    assert keys[1:] == [*index.keys(100_000, 100_001), *index.keys(199_999)]
    assert sum(1 for _ in index.keys()) == len(index)


def test_disk_full_leaves_nothing(folders, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match='cannot be written .*too large'):
            index_images(folders, tmp_path / 'x')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ['folders']


def test_command(zips, tmp_path, run_tool):
    """The tool end to end: a class list from a file, the table, and one sentence when it fails."""
    tool = 'dataset_converters/index_images'
    (tmp_path / 'classes.txt').write_text('n03\nn01\n')
    done = run_tool(tool, zips, '--zip', '--classes', tmp_path / 'classes.txt')
    assert done.status == 0 and 'classes without images' in done.out
    assert list(IndexedImages(data_root=str(zips)).iter_sample_keys()) == ['n03/only.png', 'n01/a.png', 'n01/b.JPEG']
    refused = run_tool(tool, zips, '--zip', '--classes', 'fall11').sentence
    assert refused.startswith('21841 of the 21841 listed classes are not in')
