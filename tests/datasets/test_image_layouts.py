"""The image index over every layout that data sets have, against the plain files, tarfile and zipfile."""
import io
import json
import os
import shutil
import tarfile
import threading
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtinyvit.datasets import IndexedImages, LoadImage
from mmtinyvit.datasets.images.data_root import join_root
from mmtinyvit.datasets.images.index import ImageIndex
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError

GOLDEN = Path(__file__).parent / 'golden'
FILES = {'n01': ['a.png', 'b.png'], 'n02': ['c d.png', "é'\".png"], 'n03': ['e.png']}
KEYS = [f'{name}/{file}' for name, files in FILES.items() for file in sorted(files)]


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 2, 3), number, np.uint8)).save(buffer, 'PNG')
    return buffer.getvalue()


CONTENT = {key: png(number) for number, key in enumerate(KEYS, 1)}


def tar(path: Path | io.BytesIO, members: dict[str, bytes], **kwargs) -> None:
    target = dict(name=path) if isinstance(path, Path) else dict(fileobj=path)
    with tarfile.open(**target, mode='w', **kwargs) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def of_class(name: str, prefix: str = '') -> dict[str, bytes]:
    return {f'{prefix}{key.partition("/")[2]}': data for key, data in CONTENT.items() if key.startswith(f'{name}/')}


def make_folders(root: Path) -> None:
    for key, data in CONTENT.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)


def make_class_zips(root: Path) -> None:
    for name in FILES:
        with zipfile.ZipFile(root / f'{name}.zip', 'w', zipfile.ZIP_DEFLATED) as file:
            for member, data in of_class(name).items():
                file.writestr(member, data)


def make_class_tars(root: Path) -> None:
    for name in FILES:
        tar(root / f'{name}.tar', of_class(name) | {'readme.txt': b'no image'})


def make_gnu_tars(root: Path) -> None:
    """As image-net.org writes them, with the names of folders in front."""
    for name in FILES:
        tar(root / f'{name}.tar', of_class(name, f'./{"long/" * 30}{name}/'), format=tarfile.GNU_FORMAT)


def make_tars_in_a_tar(root: Path) -> None:
    inner = {}
    for name in FILES:
        buffer = io.BytesIO()
        tar(buffer, of_class(name))
        inner[f'winter21_whole/{name}.tar'] = buffer.getvalue()
    tar(root / 'winter21_whole.tar', inner)


def make_one_zip(root: Path) -> None:
    with zipfile.ZipFile(root / 'train.zip', 'w') as file:
        for key, data in CONTENT.items():
            file.writestr(f'train/{key}', data)


def make_one_tar(root: Path) -> None:
    tar(root / 'train.tar', CONTENT)


LAYOUTS = {make.__name__.removeprefix('make_'): make for make in (
    make_folders, make_class_zips, make_class_tars, make_gnu_tars, make_tars_in_a_tar, make_one_zip, make_one_tar)}


def indexed(root: Path, **kwargs) -> IndexedImages:
    index_images(root, root / 'images.index', **kwargs)
    return IndexedImages(data_root=str(root), pipeline=[LoadImage()])


def numbers(dataset: IndexedImages) -> list[int]:
    """Which picture each sample is."""
    return [int(sample['img'].max()) for sample in dataset]


@pytest.mark.parametrize('make', LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_the_same_classes_gives_the_same_keys_labels_and_pixels(make, tmp_path):
    make(tmp_path)
    dataset = indexed(tmp_path)
    assert list(dataset.iter_sample_keys()) == KEYS
    assert dataset.CLASSES == tuple(FILES) and dataset.get_gt_labels().tolist() == [0, 0, 1, 1, 2]
    assert numbers(dataset) == [1, 2, 3, 4, 5]
    for sample in dataset:
        place = sample['img_path']
        assert place.startswith(str(tmp_path)) and place.endswith(sample['sample_key'].partition('/')[2])


@pytest.mark.parametrize('make', LAYOUTS.values(), ids=LAYOUTS)
def test_listed_classes_choose_and_order_in_every_layout(make, tmp_path):
    make(tmp_path)
    dataset = indexed(tmp_path, classes=['n03', 'n01'])
    assert list(dataset.iter_sample_keys()) == ['n03/e.png', 'n01/a.png', 'n01/b.png']
    assert dataset.get_gt_labels().tolist() == [0, 1, 1] and numbers(dataset) == [5, 1, 2]


@pytest.mark.parametrize('make', [*LAYOUTS.values(), lambda root: make_shards(root, cls=[b'0', b'1', b'1', b'0'])],
                         ids=[*LAYOUTS, 'shards'])
def test_every_layout_at_a_url(make, tmp_path):
    system = pytest.importorskip('fsspec').filesystem('memory')
    (tmp_path / 'data').mkdir()
    make(tmp_path / 'data')
    if system.exists('/photos'):
        system.rm('/photos', recursive=True)
    system.put(f'{tmp_path}/data/', '/photos/', recursive=True)
    index_images(tmp_path / 'data', tmp_path / 'here')
    index_images('memory://photos', tmp_path / 'there')
    assert (tmp_path / 'here').read_bytes() == (tmp_path / 'there').read_bytes()
    here, there = (IndexedImages(str(tmp_path / name), root, pipeline=[LoadImage()])
                   for name, root in (('here', str(tmp_path / 'data')), ('there', 'memory://photos')))
    assert numbers(here) == numbers(there)


def test_names_in_web_addresses_are_quoted():
    assert join_root('https://host/data/', "a b#?%/é'.png") == "https://host/data/a%20b%23%3F%25/%C3%A9%27.png"
    assert join_root('s3://bucket', 'a b#?%.png') == 's3://bucket/a b#?%.png'


def test_an_archive_by_name_is_a_data_set(tmp_path):
    make_tars_in_a_tar(tmp_path)
    make_one_zip(tmp_path)
    for name in ('winter21_whole.tar', 'train.zip'):
        index_images(tmp_path / name, tmp_path / 'images.index')
        assert list(ImageIndex(tmp_path / 'images.index').keys()) == KEYS
        assert numbers(IndexedImages(data_root=str(tmp_path), pipeline=[LoadImage()])) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(('missing', 'classes', 'labels'), [('keep', ('n00', 'n01', 'n02', 'n03'), [1, 1, 2, 2, 3]),
                                                            ('drop', ('n01', 'n02', 'n03'), [0, 0, 1, 1, 2])])
@pytest.mark.parametrize('make', [make_class_tars, make_one_tar])
def test_missing_classes(make, missing, classes, labels, tmp_path):
    make(tmp_path)
    with pytest.raises(UserError, match='1 of the 4 listed .* n00 .*--missing-classes keep .* or drop'):
        index_images(tmp_path, tmp_path / 'x', classes=['n00', 'n01', 'n02', 'n03'])
    dataset = indexed(tmp_path, classes=['n00', 'n01', 'n02', 'n03'], missing_classes=missing)
    assert dataset.CLASSES == classes and dataset.get_gt_labels().tolist() == labels


# ---------------------------------------------------------------- shards
def make_shards(root: Path, **sidecars: list[bytes]) -> None:
    """Two shards of a WebDataset; both have a sample 000."""
    for shard in range(2):
        members = {}
        for row in range(2):
            members[f'{row:03d}.jpg' if row else '000.png'] = png(10 * shard + row + 1)
            for suffix, values in sidecars.items():
                members[f'{row:03d}.{suffix}'] = values[2 * shard + row]
        tar(root / f'train-{shard:06d}.tar', members)


def test_shards_with_class_numbers(tmp_path):
    make_shards(tmp_path, cls=[b'7', b'2', b'2', b'0'])
    dataset = indexed(tmp_path)
    assert list(dataset.iter_sample_keys()) == ['train-000000/000.png', 'train-000000/001.jpg', 'train-000001/000.png',
                                                'train-000001/001.jpg']
    assert dataset.get_gt_labels().tolist() == [7, 2, 2, 0] and len(dataset.CLASSES) == 8
    assert numbers(dataset) == [1, 2, 11, 12]
    assert dataset[3]['img_path'] == str(tmp_path / 'train-000001.tar/001.jpg')


def test_shards_with_labels_in_json_and_listed_classes(tmp_path):
    make_shards(tmp_path, json=[json.dumps(dict(wnid=name, of=dict(label=i))).encode() for i, name in
                                enumerate(['n02', 'n01', 'n01', 'n02'])])
    listed = dict(labels='json:wnid', classes=['n02', 'n09', 'n01'])
    with pytest.raises(UserError, match='1 of the 3 listed classes are not in'):
        index_images(tmp_path, tmp_path / 'x', **listed)
    dataset = indexed(tmp_path, **listed, missing_classes='keep')
    assert dataset.get_gt_labels().tolist() == [0, 2, 2, 0] and dataset.CLASSES == ('n02', 'n09', 'n01')
    assert indexed(tmp_path, labels='json:of.label').get_gt_labels().tolist() == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r'000.json in .*train-000000.tar holds no label in its field nothing'):
        index_images(tmp_path, tmp_path / 'x', labels='json:nothing')


def test_shards_without_labels(tmp_path):
    make_shards(tmp_path, txt=[b'a caption'] * 4)
    (tmp_path / 'train-000000.parquet').write_bytes(b'of img2dataset')
    dataset = indexed(tmp_path, check='cv2')
    assert len(dataset) == 4 and 'gt_label' not in dataset[0] and not dataset.index.classes
    with pytest.raises(UserError, match='have no labels: write the index again with --labels'):
        dataset.get_gt_labels()


def test_shards_in_folders_by_pattern(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        make_shards(tmp_path / folder)
    shutil.copy(tmp_path / 'a/train-000000.tar', tmp_path / 'a/val-000000.tar')
    dataset = indexed(tmp_path, match='*/train-*.tar')
    shards = [f'{folder}/train-00000{number}' for folder in 'ab' for number in (0, 1)]
    assert list(dataset.iter_sample_keys())[::2] == [f'{shard}/000.png' for shard in shards]
    assert numbers(dataset) == 2 * [1, 2, 11, 12]


def test_a_member_that_was_appended_again_counts_as_when_unpacked(tmp_path):
    tar(tmp_path / 'n01.tar', {'a.png': png(1), 'b.png': png(2)})
    with tarfile.open(tmp_path / 'n01.tar', 'a') as file:
        info = tarfile.TarInfo('a.png')
        info.size = len(png(9))
        file.addfile(info, io.BytesIO(png(9)))
    assert numbers(indexed(tmp_path, layout='class-archives')) == [9, 2]


# ---------------------------------------------------------------- labels
def test_images_without_any_folder_have_no_labels(tmp_path):
    for number in (2, 1):
        (tmp_path / f'{number}.png').write_bytes(png(number))
    dataset = indexed(tmp_path)
    assert list(dataset.iter_sample_keys()) == ['1.png', '2.png'] and 'gt_label' not in dataset[0]
    make_folders(tmp_path)
    with pytest.raises(UserError, match='holds images beside its class folders: move them, or choose --labels none'):
        index_images(tmp_path, tmp_path / 'x')
    assert len(indexed(tmp_path, labels='none')) == 7


@pytest.mark.parametrize('text', ['n01/a.png 3\nn03/e.png\t1\n', 'n01/a.png,3\nn03/e.png,1\n',
                                  'key,label\nn01/a.png,3\n"n03/e.png",1\n'], ids=['words', 'csv', 'header'])
def test_a_list_chooses_the_images_and_gives_their_labels(text, tmp_path):
    make_folders(tmp_path)
    (tmp_path / 'list.txt').write_text(text)
    summary = index_images(tmp_path, tmp_path / 'images.index', labels=str(tmp_path / 'list.txt'))
    dataset = IndexedImages(data_root=str(tmp_path), pipeline=[LoadImage()])
    assert list(dataset.iter_sample_keys()) == ['n01/a.png', 'n03/e.png']
    assert dataset.get_gt_labels().tolist() == [3, 1] and summary.left_out == 3


def test_a_zip_file_with_a_map_beside_it(tmp_path):
    """As the original and Swin have ImageNet: train.zip and train_map.txt."""
    make_one_zip(tmp_path)
    (tmp_path / 'train_map.txt').write_text(''.join(f'{key}\t{4 - number}\n' for number, key in enumerate(KEYS)))
    dataset = indexed(tmp_path)
    assert [sample['sample_key'] for sample in dataset] == KEYS and dataset.get_gt_labels().tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(('text', 'sentence'), [
    ('n01/a.png\n', 'Line 1 of the label list .* has no label'), ('', 'is empty'),
    ('n01/a.png 1\nn01/a.png 2\n', 'gives n01/a.png two labels, 1 and 2'),
    ('n01/nowhere.png 1\n', '1 of the 1 images that .*list.txt names are not there, n01/nowhere.png among them')])
def test_what_a_list_cannot_be(text, sentence, tmp_path):
    make_folders(tmp_path)
    (tmp_path / 'list.txt').write_text(text)
    with pytest.raises(UserError, match=sentence):
        index_images(tmp_path, tmp_path / 'x', labels=str(tmp_path / 'list.txt'))


# ---------------------------------------------------------------- names
def test_names_of_any_bytes(tmp_path):
    names = [b'space q\'uo"te.png', b'line\nbreak.png', b'\xff\xfe.png', b'per%0Acent.png', 'ü.png'.encode()]
    (tmp_path / 'n01').mkdir()
    for number, name in enumerate(names, 1):
        Path(os.fsdecode(bytes(tmp_path / 'n01') + b'/' + name)).write_bytes(png(number))
    dataset = indexed(tmp_path)
    expected = {"n01/space q'uo\"te.png": 1, 'n01/line%0Abreak.png': 2, 'n01/%FF%FE.png': 3, 'n01/per%0Acent.png': 4,
                'n01/ü.png': 5}
    assert {sample['sample_key']: int(sample['img'].max()) for sample in dataset} == expected
    archives = tmp_path / 'archives'
    archives.mkdir()
    tar(archives / 'n01.tar', {os.fsdecode(name): png(number) for number, name in enumerate(names, 1)})
    in_tar = indexed(archives, layout='class-archives')
    assert {sample['sample_key']: int(sample['img'].max()) for sample in in_tar} == expected


def test_two_names_of_one_key_are_refused(tmp_path):
    (tmp_path / 'n01').mkdir()
    for name in ('line\nbreak.png', 'line%0Abreak.png'):
        (tmp_path / 'n01' / name).write_bytes(png(1))
    with pytest.raises(UserError, match='n01 holds two images that would be called n01/line%0Abreak.png'):
        index_images(tmp_path, tmp_path / 'x')


JUNK = {'n01/._a.png': b'fork', 'n01/.ipynb_checkpoints/a-checkpoint.png': png(9), '__MACOSX/n01/._b.png': b'fork',
        'n01/@eaDir/a.png': png(9), 'n01/b.gif': b'GIF8', 'n01/notes.TXT': b'', 'n02/Makefile': b''}


@pytest.mark.parametrize('layout', ['folders', 'tar', 'zip'])
def test_what_is_no_image_is_left_out_and_counted(layout, tmp_path, monkeypatch):
    for name, data in JUNK.items():
        monkeypatch.setitem(CONTENT, name, data)
    {'folders': make_folders, 'tar': make_one_tar, 'zip': make_one_zip}[layout](tmp_path)
    summary = index_images(tmp_path, tmp_path / 'images.index')
    index = ImageIndex(tmp_path / 'images.index')
    assert (list(index.keys()), index.classes) == (KEYS, tuple(FILES)), 'no folder of a system is a class'
    assert summary.others == {'hidden': 3 + (layout != 'folders'), '.gif': 1, '.txt': 1, 'without an ending': 1}


def test_masks_beside_the_images_of_a_shard_are_no_images(tmp_path):
    members = {}
    for name in ('000', 'a.v2'):
        members |= {f'{name}.jpg': png(1), f'{name}.seg.png': png(2), f'{name}.DEPTH.PNG': png(3), f'{name}.cls': b'1'}
    tar(tmp_path / 'train-000000.tar', members | {'pair.left.png': png(4), 'pair.right.png': png(5), 'pair.cls': b'0'})
    summary = index_images(tmp_path, tmp_path / 'images.index')
    dataset = IndexedImages(data_root=str(tmp_path), pipeline=[LoadImage()])
    assert [key.partition('/')[2] for key in dataset.iter_sample_keys()] == ['000.jpg', 'a.v2.jpg', 'pair.left.png',
                                                                             'pair.right.png']
    assert dataset.get_gt_labels().tolist() == [1, 1, 0, 0]
    assert [sample['img'].max() for sample in dataset] == [1, 1, 4, 5]
    assert summary.others == {'.seg.png': 2, '.depth.png': 2}


@pytest.mark.parametrize('form, other', [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_names_that_only_look_alike_are_told_apart(form, other, tmp_path):
    def spelt(name: str) -> str:
        return unicodedata.normalize(other, name)

    there = unicodedata.normalize(form, 'café')
    (tmp_path / there).mkdir()
    (tmp_path / there / 'a.png').write_bytes(png(1))
    said = rf'it is there in the other spelling of Unicode, {form} and not {other}'
    for missing in ('refuse', 'drop'):
        with pytest.raises(UserError, match=f'names {spelt("café")}, which .* does not have .{said}'):
            index_images(tmp_path, tmp_path / 'images.index', classes=[spelt('café')], missing_classes=missing)
    (tmp_path / 'list.txt').write_text(f'{spelt("café")}/a.png 0\n')
    with pytest.raises(UserError, match=said):
        index_images(tmp_path, tmp_path / 'images.index', labels=str(tmp_path / 'list.txt'))
    (tmp_path / spelt('café')).mkdir()
    with pytest.raises(UserError, match='holds two folders or archives that look alike, café'.replace('café', 'caf')):
        index_images(tmp_path, tmp_path / 'images.index')


def test_links_are_followed_unless_they_lead_back(tmp_path):
    make_folders(tmp_path / 'data')
    (tmp_path / 'data/n01/self').symlink_to('.')
    (tmp_path / 'data/n02/up').symlink_to('..')
    (tmp_path / 'data/loop').symlink_to(tmp_path)
    (tmp_path / 'data/gone').symlink_to('nowhere')
    (tmp_path / 'data/n04').symlink_to('n03')
    dataset = indexed(tmp_path / 'data', classes=[*FILES, 'n04'])
    assert list(dataset.iter_sample_keys()) == [*KEYS, 'n04/e.png']
    (tmp_path / 'data/n01/across').symlink_to('../n02')
    (tmp_path / 'data/n02/back').symlink_to('../n01')
    assert len(indexed(tmp_path / 'data', classes=[*FILES])) == 5 + 2 + 2, 'the images of the other, once'


# ---------------------------------------------------------------- archives that are none, or that mean harm
def break_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


def cut_the_end_mark(path: Path) -> None:
    with tarfile.open(path) as file:
        end = file.getmembers()[-1]
    path.write_bytes(path.read_bytes()[:end.offset_data + 512 * -(-end.size // 512)])


def lengthen_a_member(path: Path) -> None:
    info = tarfile.TarInfo('a.png')
    info.size = 2**33
    path.write_bytes(info.tobuf() + bytes(2048))


def overwrite(path: Path) -> None:
    path.write_bytes(b'no archive' * 200)


@pytest.mark.parametrize('harm', [break_in_half, cut_the_end_mark, lengthen_a_member, overwrite])
def test_damaged_tar_files_are_one_sentence(harm, tmp_path):
    make_class_tars(tmp_path)
    harm(tmp_path / 'n02.tar')
    with pytest.raises(UserError, match=r'n02.tar (cannot be read as a tar file|claims)'):
        index_images(tmp_path, tmp_path / 'x')
    assert not (tmp_path / 'x').exists()


def test_members_outside_links_and_devices(tmp_path):
    with tarfile.open(tmp_path / 'n01.tar', 'w') as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f'{kind.decode()}.png')
            info.type, info.linkname = kind, '/etc/passwd'
            file.addfile(info)
        info = tarfile.TarInfo('good.png')
        info.size = len(png(1))
        file.addfile(info, io.BytesIO(png(1)))
    assert list(indexed(tmp_path, layout='class-archives').iter_sample_keys()) == ['n01/good.png']
    for name in ('../../out.png', '/out.png'):
        tar(tmp_path / 'n01.tar', {name: png(1)})
        with pytest.raises(UserError, match='n01.tar names an image outside of itself'):
            index_images(tmp_path, tmp_path / 'x', layout='class-archives')


def test_a_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'n01.zip', 'w', zipfile.ZIP_DEFLATED) as file, file.open('a.png', 'w') as member:
        for _ in range(1025):
            member.write(bytes(2**20))
    with pytest.raises(UserError, match='a.png in .*n01.zip claims 1074790400 bytes, which is no image'):
        index_images(tmp_path, tmp_path / 'x')


@pytest.mark.parametrize('name', ['n01.tar.gz', 'n01.tgz', 'n01.tar.zst'])
def test_compressed_tar_files_are_refused_with_the_command(name, tmp_path):
    (tmp_path / name).write_bytes(b'whatever')
    with pytest.raises(UserError, match=f'{name} is a compressed tar file.*unpack'):
        index_images(tmp_path, tmp_path / 'x')


def test_mixed_roots_and_twin_archives_are_refused(tmp_path):
    make_folders(tmp_path)
    make_class_tars(tmp_path)
    with pytest.raises(UserError, match='holds 3 folders and 3 archives: say which are meant with --layout'):
        index_images(tmp_path, tmp_path / 'x')
    assert len(indexed(tmp_path, layout='folders')) == len(indexed(tmp_path, layout='class-archives')) == 5
    make_class_zips(tmp_path)
    with pytest.raises(UserError, match='holds two archives or folders for n01'):
        index_images(tmp_path, tmp_path / 'x', layout='class-archives')
    assert len(indexed(tmp_path, match='*.zip')) == 5


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('nested', [False, True])
def test_a_damaged_header_in_a_tar_file_is_no_end(nested, tmp_path):
    if nested:
        make_tars_in_a_tar(tmp_path)
        path = tmp_path / 'winter21_whole.tar'
    else:
        path = tmp_path / 'n01.tar'
        tar(path, {f'{number}.png': png(number) for number in range(1, 5)})
    with tarfile.open(path) as file:
        second = file.getmembers()[1].offset
    flip(path, second + 20)
    with pytest.raises(UserError, match=f'cannot be read as a tar file .at byte {second} is a damaged header'):
        index_images(tmp_path, tmp_path / 'x')


def test_archives_that_were_joined_are_noticed(tmp_path):
    make_class_tars(tmp_path)
    (tmp_path / 'n01.tar').write_bytes((tmp_path / 'n01.tar').read_bytes() + (tmp_path / 'n02.tar').read_bytes())
    with pytest.raises(UserError, match='n01.tar cannot be read .* or another archive'):
        index_images(tmp_path, tmp_path / 'x')


def test_archives_of_several_kinds_are_not_mixed(tmp_path):
    make_tars_in_a_tar(tmp_path)
    make_one_tar(tmp_path)
    with pytest.raises(UserError, match='holds tar files of tar files, and train.tar, which is none'):
        index_images(tmp_path, tmp_path / 'x')
    (tmp_path / 'train.tar').unlink()
    (tmp_path / 'n04.tar.gz').write_bytes(b'')
    with pytest.raises(UserError, match='n04.tar.gz is a compressed tar file'):
        index_images(tmp_path, tmp_path / 'x')
    buffer = io.BytesIO()
    tar(buffer, of_class('n01'))
    (tmp_path / 'other').mkdir()
    tar(tmp_path / 'other/whole.tar', {'README.txt': b'first', 'n01.tar': buffer.getvalue(), 'loose.png': png(1)})
    with pytest.raises(UserError, match='whole.tar holds tar files, and loose.png beside them'):
        index_images(tmp_path / 'other', tmp_path / 'x')


@pytest.mark.parametrize(('labels', 'found'), [
    ([b'7', b'2', b'-1', b'0'], 'have no label'), ([b'7', b'2', b'dog', b'0'], 'labels that are numbers, such as'),
    ([b'7', b'15300051', b'1', b'0'], 'has the label 15300051, but 1,048,576 classes are the most'),
    ([b'7', b'2', b'1', b'9' * 5000], 'has the label 9999'), ([b'7', b'2', b'a\0b', b'0'], 'holds no label')])
def test_labels_that_are_none(labels, found, tmp_path):
    make_shards(tmp_path, cls=labels)
    with pytest.raises(UserError, match=found):
        index_images(tmp_path, tmp_path / 'x')


def test_class_names_that_are_numbers_are_names(tmp_path):
    make_shards(tmp_path, cls=[b'7', b'2', b'2', b'0'])
    dataset = indexed(tmp_path, classes=['7', '0', '2'])
    assert dataset.get_gt_labels().tolist() == [0, 2, 2, 1]
    dataset = indexed(tmp_path, classes=[f'class {number}' for number in range(8)])
    assert dataset.get_gt_labels().tolist() == [7, 2, 2, 0]


def test_names_of_samples_may_have_dots(tmp_path):
    members = {}
    for number in range(4):
        members |= {f'img.{number:03d}.jpg': png(number + 1), f'img.{number:03d}.cls': str(number).encode()}
    tar(tmp_path / 'train-000000.tar', members | {'one.left.png': png(9), 'one.cls': b'3'})
    assert indexed(tmp_path).get_gt_labels().tolist() == [0, 1, 2, 3, 3]


def test_zip_files_whose_names_are_utf_8_without_saying_so(tmp_path):
    class Forgetful(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode(), 0

    with zipfile.ZipFile(tmp_path / 'n01.zip', 'w') as file:
        file.writestr(Forgetful('n01/é.png'), png(1))
        file.writestr('n01/a.png', png(2))
    assert list(indexed(tmp_path).iter_sample_keys()) == ['n01/a.png', 'n01/é.png']


@pytest.mark.parametrize(('names', 'layout'), [
    (['imagenet_2012.tar'], 'archive'), (['0001.tar', '0002.tar'], 'class-archives'), (['n01.tar'], 'class-archives'),
    (['photos-000123.tar', 'photos-000124.tar'], 'shards')])
def test_shards_are_told_from_classes(names, layout, tmp_path):
    for number, name in enumerate(names):
        tar(tmp_path / name, CONTENT if layout == 'archive' else {f'{number}.png': png(1)})
    assert index_images(tmp_path, tmp_path / 'x').layout == layout


def test_one_archive_is_opened_alone(tmp_path):
    """Whatever else lies beside it, and whatever its name looks like."""
    (tmp_path / 'loop').symlink_to(tmp_path)
    (tmp_path / 'gone').symlink_to('nowhere')
    tar(tmp_path / 'train[1].tar', CONTENT)
    assert index_images(tmp_path / 'train[1].tar', tmp_path / 'images.index').num_images == len(KEYS)


def test_the_index_replaces_nothing_but_an_index(tmp_path):
    make_one_tar(tmp_path)
    before = (tmp_path / 'train.tar').read_bytes()
    with pytest.raises(UserError, match='train.tar is there already and no image index'):
        index_images(tmp_path / 'train.tar', tmp_path / 'train.tar')
    assert (tmp_path / 'train.tar').read_bytes() == before


@pytest.mark.parametrize('labels', ['none', 'list'])
@pytest.mark.parametrize('make', [make_folders, make_one_tar])
def test_the_order_is_that_of_folders_without_classes_too(make, labels, tmp_path, monkeypatch):
    for name in ('a/x.png', 'a-b/x.png'):
        monkeypatch.setitem(CONTENT, name, png(9))
    make(tmp_path)
    order = ['a/x.png', 'a-b/x.png', *KEYS]
    (tmp_path / 'list.txt').write_text(''.join(f'{key} {number % 2}\n' for number, key in enumerate(order)))
    dataset = indexed(tmp_path, labels='none' if labels == 'none' else str(tmp_path / 'list.txt'))
    assert list(dataset.iter_sample_keys()) == order


@pytest.mark.parametrize('name', [b'odd\xff', b'car\rriage', b'name.tar'])
def test_class_folders_of_any_name(name, tmp_path):
    folder = Path(os.fsdecode(bytes(tmp_path) + b'/' + name))
    folder.mkdir()
    (folder / 'a.png').write_bytes(png(1))
    assert numbers(indexed(tmp_path)) == [1]


# ---------------------------------------------------------------- checking, resuming, moving, old formats
@pytest.mark.parametrize('make', [make_folders, make_class_tars, make_class_zips])
def test_check_leaves_out_what_does_not_decode_and_says_why(make, tmp_path, monkeypatch):
    broken = {'n01/b.png': png(2)[:-30], 'n02/c d.png': b'', 'n03/e.png': b'something'}
    for key, data in broken.items():
        monkeypatch.setitem(CONTENT, key, data)
    make(tmp_path)
    summary = index_images(tmp_path, tmp_path / 'images.index', check='cv2')
    dataset = IndexedImages(data_root=str(tmp_path), pipeline=[LoadImage()])
    assert list(dataset.iter_sample_keys()) == ['n01/a.png', "n02/é'\".png"] and numbers(dataset) == [1, 4]
    lines = [line.split('\t') for line in (tmp_path / 'rejected.txt').read_text().splitlines()]
    assert [key for key, _ in lines] == list(broken) and summary.rejected == 3
    assert [reason.partition(' (')[0] for _, reason in lines] == ['truncated', 'zero bytes', 'not an image']
    assert dataset.index.checked.startswith('cv2 ') and summary.empty_classes == ('n03',)
    for key in broken:
        monkeypatch.delitem(CONTENT, key)
    (tmp_path / 'sound').mkdir()
    make(tmp_path / 'sound')
    index_images(tmp_path / 'sound', tmp_path / 'sound.index', check='cv2')
    assert not (tmp_path / 'sound.rejected.txt').exists(), 'nothing was rejected'


def test_an_interrupted_scan_goes_on(tmp_path, monkeypatch):
    make_class_tars(tmp_path)
    good = (tmp_path / 'n03.tar').read_bytes()
    break_in_half(tmp_path / 'n03.tar')
    with pytest.raises(UserError, match='n03.tar cannot be read'):
        index_images(tmp_path, tmp_path / 'images.index', workers=1)
    (tmp_path / 'n03.tar').write_bytes(good)
    opened = []
    listed = threading.Lock()
    import mmtinyvit.datasets.images.scan as scan
    original = scan.list_source

    def list_source(root, source, label):
        with listed:
            opened.append(source.name)
        return original(root, source, label)

    monkeypatch.setattr(scan, 'list_source', list_source)
    assert numbers(indexed(tmp_path)) == [1, 2, 3, 4, 5]
    assert opened == ['n03.tar'], 'the others were listed before'
    assert not list(tmp_path.glob('.*')), 'the journal goes once the index is there'


def interrupt(monkeypatch, *args, **kwargs) -> None:
    """A scan that ends before the index is written."""
    with monkeypatch.context() as patch:
        patch.setattr('mmtinyvit.datasets.images.scan.write_index', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index_images(*args, **kwargs)


@pytest.mark.parametrize('deep', ['', 'n01/images/'])
def test_a_scan_that_goes_on_sees_what_has_changed_in_folders(tmp_path, monkeypatch, deep):
    data = tmp_path / 'data' / deep
    data.mkdir(parents=True)
    for number in (1, 2):
        (data / f'{number}.png').write_bytes(png(number))
    interrupt(monkeypatch, tmp_path / 'data', tmp_path / 'x', check='cv2')
    (data / '1.png').write_bytes(b'broken by now')
    (data / '2.png').unlink()
    (data / '3.png').write_bytes(png(3))
    summary = index_images(tmp_path / 'data', tmp_path / 'x', check='cv2')
    assert list(ImageIndex(tmp_path / 'x').keys()) == [f'{deep}3.png'] and summary.rejected == 1


def test_a_scan_of_other_data_does_not_go_on(tmp_path, monkeypatch):
    for folder, number in (('one', 1), ('two', 2)):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / 'n01.tar', {f'{number}.png': png(number)})
        os.utime(tmp_path / folder / 'n01.tar', (0, 0))
    interrupt(monkeypatch, tmp_path / 'one', tmp_path / 'x')
    index_images(tmp_path / 'two', tmp_path / 'x')
    assert list(ImageIndex(tmp_path / 'x').keys()) == ['n01/2.png']


def test_the_index_follows_the_data(tmp_path):
    (tmp_path / 'here').mkdir()
    make_tars_in_a_tar(tmp_path / 'here')
    index_images(tmp_path / 'here', tmp_path / 'images.index')
    (tmp_path / 'here').rename(tmp_path / 'there')
    dataset = IndexedImages(str(tmp_path / 'images.index'), data_root=str(tmp_path / 'there'), pipeline=[LoadImage()])
    assert numbers(dataset) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize('layout', ['zips', 'folders'])
def test_an_index_of_format_1_is_read(layout, tmp_path):
    """Written by the version before format 2, over the zip files beside it, and over folders of the same images."""
    root = GOLDEN / 'zips'
    if layout == 'folders':
        root = tmp_path
        for archive in (GOLDEN / 'zips').iterdir():
            with zipfile.ZipFile(archive) as file:
                file.extractall(tmp_path / archive.stem)
    dataset = IndexedImages(str(GOLDEN / f'{layout}_1.index'), str(root), pipeline=[LoadImage()])
    assert list(dataset.iter_sample_keys()) == ['n01/a.png', 'n01/b.png', 'n02/c d.png', 'n02/é.png']
    assert dataset.CLASSES == ('n01', 'n02') and dataset.get_gt_labels().tolist() == [0, 0, 1, 1]
    assert numbers(dataset) == [1, 2, 3, 4]
