import hashlib
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtinyvit.store import Manifest, StoreError, diff_fingerprints, read_manifest
from mmtinyvit.store.keys import SampleFiles
from mmtinyvit.store.manifest import write_manifest

PRINTS = dict(dataset=dict(name='digits', num_samples=3), pipeline=[dict(type='Flip', prob=0.5), dict(size=[8, 8])],
              teacher=dict(name='t', ratio=1e-05), versions=dict(pillow='11.0'))
COMPLETE = Manifest(topk=2, num_classes=10, fingerprints=PRINTS, num_samples=3, samples_per_shard=2,
                    base_seed=2**64 - 1, samples=SampleFiles('a' * 64, 'b' * 64, 0))
GOOD = dict(topk=2, num_classes=10, fingerprints=PRINTS, num_samples=3, samples_per_shard=2, base_seed=0, format=1,
            codec='compact', mixing=False, samples=dict(text_sha256='a' * 64, index_sha256='b' * 64, key_salt=0))


def forge(path, content):
    """What an attacker who knows the checksum would write."""
    def dump(value):
        return json.dumps(value, sort_keys=True, indent=2).encode() + b'\n'
    (path / 'manifest.json').write_bytes(dump(content | dict(sha256=hashlib.sha256(dump(content)).hexdigest())))


def test_round_trip_and_canonical_bytes(tmp_path):
    write_manifest(tmp_path, COMPLETE)
    assert read_manifest(tmp_path) == COMPLETE
    data = (tmp_path / 'manifest.json').read_bytes()
    content = json.loads(data)
    assert data == json.dumps(content, sort_keys=True, indent=2).encode() + b'\n'
    sha = content.pop('sha256')
    assert sha == hashlib.sha256(json.dumps(content, sort_keys=True, indent=2).encode() + b'\n').hexdigest()


def test_forge_is_what_the_library_writes(tmp_path):
    forge(tmp_path, GOOD)
    assert read_manifest(tmp_path) == Manifest.parse(GOOD, 'here')


def test_every_flipped_byte_is_refused(tmp_path):
    write_manifest(tmp_path, COMPLETE)
    path = tmp_path / 'manifest.json'
    data = path.read_bytes()
    with open(path, 'r+b', buffering=0) as file:
        for i in range(len(data)):
            os.pwrite(file.fileno(), bytes([data[i] ^ 1 << i % 8]), i)
            with pytest.raises(StoreError):
                read_manifest(tmp_path)
            os.pwrite(file.fileno(), data[i:i + 1], i)
    assert read_manifest(tmp_path) == COMPLETE


@pytest.mark.parametrize('change, words', [
    (dict(format=2), r'has format 2, and this library reads up to 1: upgrade mmtinyvit'),
    (dict(format=0), 'format must be'), (dict(format=True), 'format must be'), (dict(format='1'), 'format must be'),
    (dict(topk=0), 'topk must be'), (dict(topk=11), 'topk must be .* num_classes=10'), (dict(topk=2.0), 'topk must be'),
    (dict(num_classes=65537), 'num_classes must be .* 65536'), (dict(num_classes=10**30), 'num_classes must be'),
    (dict(base_seed=-1), 'base_seed'), (dict(base_seed=2**64), 'base_seed'), (dict(mixing=1), 'mixing'),
    (dict(num_samples=0), 'num_samples'), (dict(num_samples=2**32), 'num_samples'),
    (dict(samples_per_shard=0), 'samples_per_shard'), (dict(samples_per_shard=2**40), 'samples_per_shard'),
    (dict(codec='../../etc/passwd'), 'codec must be one of compact, exact'), (dict(codec=['compact']), 'codec'),
    (dict(samples=dict(text_sha256='../x', index_sha256='b' * 64, key_salt=0)), 'samples must be'),
    (dict(samples=dict(text_sha256='A' * 64, index_sha256='b' * 64, key_salt=0)), 'samples must be'),
    (dict(samples=dict(text_sha256='a' * 64)), 'samples must have exactly'), (dict(samples=[1]), 'samples must be'),
    (dict(samples=None), 'does not say'), (dict(num_samples=None), 'does not say'),
    (dict(fingerprints=[]), 'fingerprints must be an object'), (dict(extra=1), 'unknown fields extra')])
def test_malicious_fields_are_refused_by_name(tmp_path, change, words):
    forge(tmp_path, GOOD | change)
    with pytest.raises(StoreError, match=words):
        read_manifest(tmp_path)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize('data, words', [
    (b'', 'not JSON'), (b'null', 'not a JSON object'), (b'[1]', 'not a JSON object'), (b'{}', 'lacks'),
    (b'[' * 10**6, 'not JSON'), (b'{"a":' * 10**5, 'not JSON'), (b'\xff\xfe', 'not JSON'),
    (b' ' * (16 * 2**20 + 1), 'larger than'), (b'{"topk": 2, "num_classes": 10, "fingerprints": {"a": NaN}}', 'nan'),
    (b'{"topk": 2, "num_classes": 10, "fingerprints": {"a": 1e999}}', 'inf'),
    (b'{"topk": ' + b'9' * 5000 + b', "num_classes": 10}', 'not JSON')])
def test_malicious_bytes_are_refused(tmp_path, data, words):
    (tmp_path / 'manifest.json').write_bytes(data)
    with pytest.raises(StoreError, match=words):
        read_manifest(tmp_path)


def test_depth_is_limited(tmp_path):
    forge(tmp_path, GOOD | dict(fingerprints=dict(a=nested(31))))
    assert read_manifest(tmp_path).fingerprints == dict(a=nested(31))
    forge(tmp_path, GOOD | dict(fingerprints=dict(a=nested(400))))
    with pytest.raises(StoreError, match='deeper than 32'):
        read_manifest(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values, max_size=4), st.randoms(use_true_random=False))
def test_fuzzed_fields_are_read_or_refused(tmp_path_factory, change, rng: random.Random):
    """Right checksum, wild content: either a manifest that writes back to the same bytes, or one StoreError."""
    path = tmp_path_factory.getbasetemp() / 'fuzz'
    path.mkdir(exist_ok=True)
    content = GOOD | change
    for name in rng.sample(sorted(content), rng.randrange(2)):
        del content[name]
    forge(path, content)
    data = (path / 'manifest.json').read_bytes()
    try:
        manifest = read_manifest(path)
    except StoreError:
        return
    write_manifest(path, manifest)
    assert (path / 'manifest.json').read_bytes() == data


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_fuzzed_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'fuzz_bytes'
    path.mkdir(exist_ok=True)
    (path / 'manifest.json').write_bytes(data)
    with pytest.raises(StoreError):
        read_manifest(path)


def test_configs_are_made_plain_and_objects_are_refused():
    manifest = Manifest.parse(dict(topk=1, num_classes=2, fingerprints=dict(pipeline=(dict(scale=(1, 2)),))), 'it')
    assert manifest.fingerprints == dict(pipeline=[dict(scale=[1, 2])])
    for value in (object(), {1: 2}, b'x', float('nan'), {'a': {3}}):
        with pytest.raises(StoreError, match='fingerprints'):
            Manifest.parse(dict(topk=1, num_classes=2, fingerprints=dict(a=value)), 'it')


def test_identity_covers_everything_but_versions():
    base = Manifest.parse(GOOD, 'it')
    changed = dict(topk=3, num_classes=11, base_seed=1, codec='exact', mixing=True, num_samples=4, samples_per_shard=1,
                   samples=GOOD['samples'] | dict(text_sha256='c' * 64), fingerprints=PRINTS | dict(teacher='other'))
    for name, value in changed.items():
        other = Manifest.parse(GOOD | {name: value}, 'it')
        assert other.store_id != base.store_id and len(base.differences(other)) == 1, name
    same = Manifest.parse(GOOD | dict(fingerprints=PRINTS | dict(versions=dict(pillow='12'))), 'it')
    assert same.store_id == base.store_id and base.differences(same) == []
    assert base.store_id.hex() == 'bfb8e08ea665f0e244e7a20862fb2807'


@pytest.mark.parametrize('a, b, lines', [
    (dict(x=1), dict(x=1), []),
    (dict(x=1), dict(x=1.0), []),
    (dict(x=1), dict(x=True), ['x: 1 != true']),
    (dict(x=1, y=2), dict(y=2, z=3), ['x: 1 != (absent)', 'z: (absent) != 3']),
    (dict(t=[dict(a=1), dict(s=[0.2, 1])]), dict(t=[dict(a=1), dict(s=[0.08, 1])]), ['t[1].s: [0.2, 1] != [0.08, 1]']),
    (dict(t=[dict(a=1)]), dict(t=[dict(a=1), dict(b=2)]),
     ['t: 1 items != 2 items, first difference at [1]: (absent) != {"b": 2}']),
    (dict(t=[1, 2]), dict(t=[1, 2, 3]), ['t: [1, 2] != [1, 2, 3]']),
    (dict(t=list(range(9))), dict(t=[0, 1, 2, 3, 4, 5, 6, 7, 9]), ['t[8]: 8 != 9']),
    (dict(t='a' * 500), dict(t='b'), [f't: "{"a" * 116}... != "b"'])])
def test_differences_name_the_place_and_both_values(a, b, lines):
    assert diff_fingerprints(a, b) == lines
