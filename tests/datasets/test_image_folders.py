"""ImageFolder and ImageNet: mmpretrain's datasets with named samples and clear refusals."""
from unittest import mock

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
from PIL import Image

from mmtinyvit.datasets import ImageFolder, ImageNet, IndexedImages, MapLabel
from mmtinyvit.datasets.images.scan import index_images
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


def test_folders_and_index_agree_on_what_is_an_image(root):
    """Endings in capitals and rare ones, resource forks, notebooks' copies, folders of systems, links in circles."""
    image = (root / 'train/a/3.png').read_bytes()
    for name in ('a/._3.png', 'a/.ipynb_checkpoints/3.png', '__MACOSX/a/3.png', '@eaDir/3.png', '.cache/3.png',
                 'lost+found/3.png', 'a/4.GIF', 'b/notes.txt', 'b/5.WEBP', 'b/6.jfif', 'b/7.tiff'):
        (root / 'train' / name).parent.mkdir(parents=True, exist_ok=True)
        (root / 'train' / name).write_bytes(image)
    (root / 'train/a/self').symlink_to('.')
    (root / 'train/b/up').symlink_to('..')
    (root / 'train/a/circle').symlink_to('circle')
    (root / 'train/a/gone.png').symlink_to('nowhere.png')
    index_images(root / 'train', root / 'train.index')
    indexed = IndexedImages(str(root / 'train.index'), data_root=str(root / 'train'), pipeline=[])
    with mock.patch('mmtinyvit.datasets.image_folders.print_log') as log:
        found = ImageFolder(data_root=str(root), data_prefix='train')
    assert found.CLASSES == indexed.CLASSES == ('a', 'b')
    keys = ['a/3.png', 'a/deep/2.png', 'b/1.png', 'b/5.WEBP', 'b/6.jfif', 'b/7.tiff']
    assert [found.get_data_info(i)['sample_key'] for i in range(len(found))] == keys == list(indexed.iter_sample_keys())
    assert list(found.get_gt_labels()) == indexed.get_gt_labels().tolist() == [0, 0, 1, 1, 1, 1]
    assert 'files that are no images: 2 hidden, 2 link to nothing, 1 .gif, 1 .txt.' in log.call_args_list[0].args[0]
    plain = ImageFolder(data_root=str(root), data_prefix='train', with_label=False)
    assert [plain.get_data_info(i)['sample_key'] for i in range(len(plain))] == keys


@pytest.mark.parametrize('name, said', [('3.png', 'images in itself, such as 3.png'),
                                        ('n01.tar', 'archives, such as n01.tar')])
def test_what_lies_there_in_place_of_class_folders(root, name, said):
    (root / 'flat').mkdir()
    (root / 'flat' / name).write_bytes(b'')
    with pytest.raises(UserError, match=rf'holds no image in a class folder, but {said}: .*mmtinyvit.IndexedImages'):
        ImageFolder(data_root=str(root / 'flat'))


@pytest.mark.parametrize('content, said', [
    (None, 'Is a directory'), (b'\x80\x02', "can't decode byte"), (b'a/3.png cat', "invalid literal .* 'cat'"),
    (b'a/3.png', 'not enough values'),
])
def test_a_list_that_is_none(root, content, said):
    path = root / 'list.txt'
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=rf'list.txt cannot be read \(.*{said}.*a list has lines of `path number`'):
        ImageFolder(data_root=str(root), ann_file=str(path))


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
    with pytest.raises(UserError, match='cannot be used: it has 2 class folders, and 1000 classes are named'):
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


def keys(dataset) -> list[str]:
    return [dataset.get_data_info(i)['sample_key'] for i in range(len(dataset))]


@pytest.fixture
def forty(tmp_path):
    for number in range(40):
        path = tmp_path / f'many/{"ab"[number % 2]}/{number:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    return tmp_path / 'many'


def folder(root, **settings) -> ImageFolder:
    return ImageFolder(data_root=str(root), **settings)


def indexed(root, **settings) -> IndexedImages:
    index = root.parent / 'images.index'
    if not index.exists():
        index_images(root, index)
    return IndexedImages(str(index), data_root=str(root), **settings)


@pytest.mark.parametrize('make', [folder, indexed])
def test_a_share_is_drawn_by_its_seed(forty, make):
    everything, tenth = keys(make(forty)), keys(make(forty, share=0.1))
    assert len(tenth) == 4 and tenth == [key for key in everything if key in tenth]  # in their order
    assert keys(make(forty, share=0.1)) == tenth != keys(make(forty, share=0.1, share_seed=1))
    assert set(tenth) < set(keys(make(forty, share=0.5))) < set(everything)  # a part of a larger share
    assert keys(make(forty, share=1.0)) == everything and len(make(forty, share=0.001)) == 1
    half = keys(make(forty, share=0.5, indices=list(range(10))))
    assert len(half) == 5 and set(half) < set(everything[:10])
    lazy = make(forty, share=0.1, lazy_init=True)
    lazy.full_init()
    lazy.full_init()
    assert keys(lazy) == tenth == keys(lazy.get_subset(range(4)))


def test_a_share_is_the_same_in_every_layout(forty):
    assert keys(folder(forty, share=0.3)) == keys(indexed(forty, share=0.3))


@pytest.mark.parametrize('make', [folder, indexed])
def test_a_list_of_samples_to_keep(forty, make):
    kept = forty.parent / 'kept.txt'
    kept.write_text('b/03.png\na/10.png\nb/39.png\nc/00.png\n')
    assert keys(make(forty, keep=str(kept))) == ['a/10.png', 'b/03.png', 'b/39.png']
    assert keys(make(forty, keep=str(kept), indices=list(range(20)))) == ['a/10.png']


@pytest.mark.parametrize('share', [0, -0.1, 1.5, '10%'])
def test_a_share_that_makes_no_sense(forty, share):
    with pytest.raises(UserError, match=f'share={share} of a dataset must be a number above 0, and at most 1'):
        folder(forty, share=share)


@pytest.mark.parametrize('seed', [-1, 1.5, 'a', None])
def test_a_draw_that_has_no_name(forty, seed):
    with pytest.raises(UserError, match=f'share_seed={seed} must be a whole number, at least 0'):
        folder(forty, share=0.5, share_seed=seed)


def test_a_list_that_is_no_file(forty):
    with pytest.raises(UserError, match='keep=.*a/1.png.* must name a text file'):
        folder(forty, keep=['a/1.png'])


# ---------------------------------------------------------------- folders that are called by numbers
@pytest.fixture
def numbered(root):
    """Folders 0 to 11, whose order as text is 0, 1, 10, 11, 2, ..."""
    for number in range(12):
        folder = root / f'numbers/{number}'
        folder.mkdir(parents=True)
        (folder / 'x.png').write_bytes((root / 'train/a/3.png').read_bytes())
    return root / 'numbers'


def labels(dataset) -> dict[str, int]:
    return {info['sample_key'].split('/')[0]: int(info['gt_label'])
            for info in map(dataset.get_data_info, range(len(dataset)))}


@pytest.mark.parametrize('classes, said', [
    (None, True), ([f'animal {number}' for number in range(12)], True), (list(map(str, range(12))), False)])
def test_the_order_of_numbers_is_said_where_it_is_that_of_text(numbered, classes, said):
    """Further names go by the order of the folders, too; the folders' own names set another one."""
    index_images(numbered, numbered / 'images.index', classes if classes and not said else None)
    options = {} if classes is None else dict(metainfo=dict(classes=classes))
    for build in (lambda: ImageFolder(data_root=str(numbered), **options),
                  lambda: IndexedImages(data_root=str(numbered), pipeline=[], **options)):
        with mock.patch('mmtinyvit.datasets.named_samples.print_log') as log:
            dataset = build()
            dataset.full_init()
        order = sorted(map(str, range(12))) if said else list(map(str, range(12)))
        assert labels(dataset) == {name: label for label, name in enumerate(order)}
        texts = [call.args[0] for call in log.call_args_list]
        assert len(texts) == said
        assert all('in the order of text: 10 is label 2, 11 is label 3, 2 is label 4, .... Give' in text
                   for text in texts)


@pytest.mark.parametrize('key', [10, '10'])
def test_a_number_as_a_name_is_a_name(numbered, key):
    """Whether a config writes it as a number or as a text."""
    index = {number if isinstance(key, int) else str(number): f'animal {number}' for number in range(12)}
    mapped = MapLabel(index, target=[f'animal {number}' for number in range(12)])
    dataset = ImageFolder(data_root=str(numbered), pipeline=[mapped])
    assert [dataset[i]['gt_label'] for i in range(12)] == list(map(int, sorted(map(str, range(12)))))
