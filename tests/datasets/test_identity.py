import hashlib
import json

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from tiny_flow import VIEW_TRANSFORMS, photo_dataset

from mmtinyvit.datasets import SeededAugment
from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    iter_keys,
    library_versions,
    pipeline_identity,
    plain_json,
)
from mmtinyvit.errors import UserError


def test_keys_are_paths_below_the_root_in_order(photos):
    init_default_scope('mmpretrain')
    keys = list(iter_keys(DATASETS.build(photo_dataset(photos)), str(photos)))
    assert keys == sorted(path.relative_to(photos).as_posix() for path in photos.rglob('*.png'))


def test_dataset_identity():
    ours = dataset_identity(iter(['a/1.png', 'b/2.png']), ['a', 'b'])
    assert ours == dict(num_samples=2, order_hash=hashlib.sha256(b'a/1.png\nb/2.png\n').hexdigest(), num_classes=2,
                        classes_hash=hashlib.sha256(b'a\nb').hexdigest())
    assert dataset_identity(['b/2.png', 'a/1.png'], None)['order_hash'] != ours['order_hash']
    assert dataset_identity(['x'], None)['classes_hash'] is None


@pytest.mark.parametrize('key, words', [
    ('caf\udce9.png', r"Sample 70003 has the key 'caf\\udce9.png', which is not text in UTF-8"),
    ('\ud800', 'Sample 70003 has the key .*, which is not text in UTF-8'), ('two\nlines.png', 'contains a line break')])
def test_keys_that_no_store_takes_are_refused_by_name(key, words):
    """As Python names files whose names are not UTF-8."""
    keys = [f'{i}.png' for i in range(70_003)]
    with pytest.raises(UserError, match=words):
        dataset_identity([*keys, key], None)


def test_identity_does_not_depend_on_blocks():
    keys = [str(i) for i in range(70_000)]
    expected = hashlib.sha256(''.join(f'{key}\n' for key in keys).encode()).hexdigest()
    assert dataset_identity(keys, None)['order_hash'] == expected


def identity(transforms: list, mixing: dict | None = None, **load) -> dict:
    init_default_scope('mmpretrain')
    pipeline = [dict(type='mmtinyvit.LoadImage', **load), SeededAugment(transforms)]
    return pipeline_identity(BaseDataset(pipeline=pipeline, lazy_init=True), mixing)


def test_pipeline_identity_is_json_and_notices_any_setting():
    base = identity(VIEW_TRANSFORMS)
    assert json.loads(json.dumps(base)) == base
    changed = [*VIEW_TRANSFORMS[:-1], VIEW_TRANSFORMS[-1] | dict(erase_prob=0.3)]
    assert identity(changed) != base
    assert identity(VIEW_TRANSFORMS[:-1]) != base
    assert identity(VIEW_TRANSFORMS, dict(mixup_alpha=0.8)) != base


def test_reduced_images_are_part_of_the_identity_and_others_add_nothing_to_it():
    """A store that was saved before images could be reduced has no such entry."""
    assert identity(VIEW_TRANSFORMS, min_side=400) == identity(VIEW_TRANSFORMS) | dict(min_side=400)
    assert set(identity(VIEW_TRANSFORMS)) == {'transforms', 'mixing'}


def test_a_callable_is_part_of_the_identity():
    base = identity(VIEW_TRANSFORMS)
    ours = identity([*VIEW_TRANSFORMS, darken])
    assert ours != base and ours['transforms'][-1] == 'darken'


def darken(results: dict) -> dict:
    results['img'] = results['img'] // 2
    return results


def test_plain_json():
    assert plain_json(dict(a=(1, np.float32(0.5)), b=None, c=darken, d=dict)) == dict(
        a=[1, 0.5], b=None, c='darken', d='dict')


def test_versions_name_what_decodes_and_transforms():
    versions = library_versions()
    assert {'numpy', 'torch', 'pillow'} <= set(versions) and any('opencv' in name for name in versions)


def test_canary_digest_notices_pixels_shape_and_type():
    image = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
    flipped = image.clone()
    flipped[0, 0, 0] ^= 1
    others = [flipped, image.view(3, 5, 4), image.to(torch.int8), image.flip(0)]
    digests = {canary_digest(each) for each in (image, *others)}
    assert len(digests) == 5 and all(len(each) == 16 for each in digests)
    assert canary_digest(image.permute(1, 2, 0).contiguous().permute(2, 0, 1)) == canary_digest(image)
