"""The label layouts and the maps between them, against the published map and timm's own index lists."""
import hashlib
from importlib.resources import files
from itertools import permutations

import numpy as np
import pytest
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from PIL import Image
from timm.data import ImageNetInfo

from mmtinyvit.datasets import IndexedImages
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import LAYOUTS, match_classes, synsets
from mmtinyvit.evaluation.class_map import (
    class_names,
    find_classes,
    require_classes,
    require_same_classes,
    same_classes,
)

PUBLISHED = 'f17c9e35506a30d027145ca26b10397d7328890989acda1cc74cb4f7596ba4a1'  # SHA-256 of imagenet_1kto22k.txt
SHIPPED = [name for name in LAYOUTS if name != 'winter21']


def test_map_is_the_published_one():
    text = ''.join(f'{index}\n' for index in match_classes())
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED


@pytest.mark.parametrize(('source', 'target', 'file'), [
    ('fall11-google', 'fall11', 'imagenet21k_goog_to_22k_indices.txt'),
    ('fall11-ms', 'fall11', 'imagenet22k_ms_to_22k_indices.txt'),
    ('fall11-google', 'in12k', 'imagenet21k_goog_to_12k_indices.txt'),
    ('fall11-ms', 'in12k', 'imagenet22k_ms_to_12k_indices.txt'),
    ('fall11', 'in12k', 'imagenet22k_to_12k_indices.txt')])
def test_maps_are_those_that_timm_lists(source, target, file):
    listed = np.array(files('timm.data').joinpath('_info', file).read_text().split(), np.int64)
    np.testing.assert_array_equal(match_classes(source, target), listed)


@pytest.mark.parametrize(('source', 'target'), list(permutations(SHIPPED, 2)))
def test_every_map_is_from_synset_to_same_synset(source, target):
    large, small, index = synsets(source), synsets(target), match_classes(source, target)
    assert index.shape == (len(small), ) and index.dtype == np.int64
    held = set(large)
    assert [large[i] if i >= 0 else None for i in index] == [name if name in held else None for name in small]


@pytest.mark.parametrize(('source', 'target', 'missing'), [
    ('fall11', 'in1k', 1), ('fall11-ms', 'in1k', 0), ('fall11-google', 'in1k', 1), ('in12k', 'in1k', 7),
    ('fall11-p', 'in1k', 9), ('winter21-p', 'in1k', 9), ('fall11', 'winter21-p', 0), ('fall11', 'fall11-p', 0),
    ('fall11-p', 'winter21-p', 0), ('winter21-p', 'fall11-p', 771), ('in1k', 'fall11', 20842)])
def test_how_many_classes_have_no_match(source, target, missing):
    assert (match_classes(source, target) < 0).sum() == missing


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_has_one_name_timms_name_and_a_number(name):
    layout = LAYOUTS[name]
    if name == 'winter21':
        for other in (name, 'imagenet-w21', 19167, '19167'):
            with pytest.raises(UserError, match=r'ships the 19,167 synsets of winter21: name a file .* winter21_whole'):
                synsets(other)
        return
    classes = synsets(name)
    assert len(classes) == len(set(classes)) == layout.num_classes
    for other in (layout.timm_name, layout.timm_name.replace('-', '_'), layout.num_classes, str(layout.num_classes)):
        assert synsets(other) is classes
    if name != 'winter21-p':  # timm has its list, but no name for it
        assert ImageNetInfo(layout.timm_name).label_names() == list(classes)
        assert ImageNetInfo(layout.timm_name).label_descriptions() == list(class_names(name))


def test_what_the_layouts_hold():
    fall11, ms, google = (synsets(name) for name in ('fall11', 'fall11-ms', 'fall11-google'))
    assert set(ms) - set(fall11) == {'n04399382'} and ms[:1000] == synsets('in1k')  # no background among them
    assert set(google) - set(fall11) == {'n03931044', 'n09859684'}
    assert set(synsets('winter21-p')) < set(synsets('fall11-p')) < set(fall11) < set(ms)
    assert set(fall11) < set(google)
    assert class_names('in1k')[0] == 'tench, Tinca tinca' and len(class_names('winter21-p')) == 10450


def test_a_list_of_ones_own(tmp_path):
    own = tmp_path / 'winter21.txt'
    own.write_text('\n'.join([*synsets('winter21-p')[:30], 'n99999999']) + '\n\n')
    assert synsets(own) == synsets(str(own)) == (*synsets('winter21-p')[:30], 'n99999999')
    assert match_classes('winter21-p', own).tolist() == [*range(30), -1]
    own.write_text('n01440764\nn01443537\nn01440764')
    with pytest.raises(UserError, match='winter21.txt names n01440764 twice'):
        synsets(own)  # read anew
    own.write_text('\n')
    with pytest.raises(UserError, match='winter21.txt is empty'):
        synsets(own)
    own.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='winter21.txt cannot be read .it is not a text.: name a file'):
        synsets(own)
    own.write_text('cat\ndog')
    with pytest.raises(UserError, match='fall11 and .*winter21.txt have no class in common'):
        match_classes('fall11', own)


def test_classes_are_found_by_synset_or_name():
    found = find_classes('in1k', ['Golden_Retriever', 'tench', 'n03394916', 'garbage truck', 'my_cat', 'n99999999'])
    assert found.tolist() == [207, 0, 566, 569, -1, -1]
    assert find_classes('in1k', ['crane', 'tench', 'Tinca tinca']).tolist() == [-1, -1, -1], 'one of two, and one twice'
    assert find_classes(['dog', 'n02510455', 'giant_panda'], ['giant panda']).tolist() == [-1]
    assert find_classes(['0', '1', '10', '2'], ['0', '1', '2', '10']).tolist() == [0, 1, 3, 2]
    named = list(class_names('in1k'))  # with two cranes, which a whole list tells apart by their places
    assert same_classes('in1k', named) and same_classes(IMAGENET_CATEGORIES, 'in1k')
    assert not same_classes('in1k', named[::-1]) and not same_classes('in1k', named[:-1])
    assert (find_classes('fall11', named) == match_classes('fall11', 'in1k')).all()


def test_lists_that_differ_are_both_named():
    with pytest.raises(UserError, match=r'A 2 classes \(cat, dog\), B 3 classes \(cat, cow, dog\); of the latter '
                       r'1 class \(cow\) cannot be told among the former: advice'):
        require_classes(['cat', 'dog'], ['cat', 'cow', 'dog'], 'A {ours}, B {theirs}', 'advice')
    with pytest.raises(UserError, match=r'A 2 classes .*; number 1 is dog there and nothing here: advice'):
        require_same_classes(['cat', 'dog'], ['cat'], 'A {ours}, B {theirs}', 'advice')


def test_unknown_layouts():
    for unknown in (21000, '21000', 19168):  # the last is the head of MViTv2, whose list is not published
        with pytest.raises(UserError, match=rf'has {unknown} classes: the known ones are .*fall11 \(21841\), .*name'):
            synsets(unknown)
    with pytest.raises(UserError, match=r'list imagenet-23k cannot be read \(No such.*: name a .* in1k, in12k, fa'):
        synsets('imagenet-23k')


@pytest.mark.parametrize('name', ['in1k', 'imagenet-1k', 1000])
def test_the_index_takes_a_layout(name, tmp_path, run_tool):
    for synset in (*synsets('in1k'), 'n00000000'):
        (tmp_path / synset).mkdir()
    for synset in ('n00000000', *synsets('in1k')[998:]):
        Image.new('RGB', (4, 4)).save(tmp_path / synset / 'photo.png')
    assert run_tool('dataset_converters/index_images', tmp_path, '--classes', name).status == 0
    dataset = IndexedImages(data_root=str(tmp_path))
    assert dataset.CLASSES == synsets('in1k') and dataset.get_gt_labels().tolist() == [998, 999]


def test_the_index_says_where_the_list_of_winter21_is(tmp_path, run_tool):
    refused = run_tool('dataset_converters/index_images', tmp_path, '--classes', 'winter21').sentence
    assert refused.startswith('No library here ships the 19,167 synsets of winter21: name a file with one class per ')
