import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtinyvit.store import StoreError, key_hash
from mmtinyvit.store import keys as keys_module
from mmtinyvit.store.keys import KeyTable, text_sha256, write_sample_files

KEYS = ['n01440764/n01440764_10026.JPEG', 'a', 'ß/猫.png', 'with space/and#.jpg', 'a/b', 'a/b.c', '..a/b..']


def table(path, keys):
    samples, num = write_sample_files(path, keys)
    assert num == len(keys)
    return KeyTable(path, num, samples)


def test_hash_is_a_fixed_function():
    assert key_hash('n01440764/n01440764_10026.JPEG') == 3201564428367291821
    assert key_hash('a') != key_hash('a', salt=1)


def test_exact_bytes_of_the_files(tmp_path):
    keys = ['b/2', 'a/1', 'c']
    write_sample_files(tmp_path, keys)
    assert (tmp_path / 'samples.txt').read_bytes() == b'b/2\na/1\nc\n'
    data = (tmp_path / 'samples.idx').read_bytes()
    assert data[:8] == b'MTVKEYS\n'
    assert np.frombuffer(data, '<u4', 2, 8).tolist() == [1, 0]
    assert np.frombuffer(data, '<u8', 2, 16).tolist() == [3, 10]
    assert data[32:60] == hashlib.sha256(b'b/2\na/1\nc\n').digest()[:28]
    assert np.frombuffer(data, '<u8', 4, 64).tolist() == [0, 4, 8, 10]
    order = sorted(range(3), key=lambda i: key_hash(keys[i]))
    assert np.frombuffer(data, '<u8', 3, 96).tolist() == [key_hash(keys[i]) for i in order]
    assert np.frombuffer(data, '<u4', 3, 120).tolist() == order
    assert len(data) == 132


def test_find_and_key_agree(tmp_path):
    found = table(tmp_path, KEYS)
    assert found.find(KEYS[::-1]) == [6, 5, 4, 3, 2, 1, 0]
    assert [found.key(i) for i in range(7)] == KEYS
    assert found.find(['b', '', 'a/B', 'a\n', '\udcff']) == [-1] * 5
    assert found.find([]) == []
    with pytest.raises(StoreError, match='samples 0 to 6; there is no sample 7'):
        found.key(7)


def test_a_file_of_keys_gives_the_same_store(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    (tmp_path / 'list.txt').write_text('\n'.join(KEYS), 'utf-8')  # no line end at the end
    assert write_sample_files(tmp_path / 'a', KEYS) == write_sample_files(tmp_path / 'b', tmp_path / 'list.txt')
    assert text_sha256(KEYS) == text_sha256(tmp_path / 'list.txt')
    assert write_sample_files(tmp_path / 'a', KEYS)[0].text_sha256 == text_sha256(KEYS)[0]


def test_chunks_make_no_difference(tmp_path, monkeypatch):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    keys = [f'{i % 10}/{i}' for i in range(100)]
    whole = write_sample_files(tmp_path / 'a', keys)
    monkeypatch.setattr(keys_module, '_CHUNK', 7)
    assert write_sample_files(tmp_path / 'b', keys) == whole
    with pytest.raises(StoreError, match='sample 99'):
        write_sample_files(tmp_path / 'b', [*keys[:99], '/etc/passwd'])


@pytest.mark.parametrize('key, words', [
    ('', 'is empty'), ('a\nb', 'line break'), ('a\rb', 'line break'), ('a\0', 'zero byte'), ('/etc/hosts', 'leads out'),
    ('..', 'leads out'), ('../x', 'leads out'), ('a/../b', 'leads out'), ('a/..', 'leads out'),
    ('x' * 4097, 'longer than'), ('\ud800', 'not text in UTF-8'), (7, 'not text'),
    (b'\xff', 'not text'), (None, 'not text')])
def test_unusable_keys_are_named(tmp_path, key, words):
    with pytest.raises(StoreError, match=f'(?s){words}.*data root') as error:
        write_sample_files(tmp_path, ['good', key, 'also good'])
    assert 'ample 1' in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_utf_8_in_a_store_of_somebody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, '_usable', lambda key, position: key)
    samples, num = write_sample_files(tmp_path, [b'good', b'caf\xe9'])
    found = KeyTable(tmp_path, num, samples)
    assert found.find(['good', 'caf\udce9', 'caf\ud800']) == [0, -1, -1]
    with pytest.raises(StoreError, match=r"names sample 1 b'caf\\xe9', which is not text in UTF-8: no mmtinyvit"):
        found.key(1)


def test_duplicates_and_nothing_are_refused(tmp_path):
    with pytest.raises(StoreError, match="'a/b' appears twice, as samples 1 and 3"):
        write_sample_files(tmp_path, ['a', 'a/b', 'c', 'a/b'])
    with pytest.raises(StoreError, match='has 0'):
        write_sample_files(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_colliding_hashes_are_salted_apart(tmp_path, monkeypatch):
    """With an 8-bit hash for the first two salts, 40 keys collide; the third salt is a real one."""
    real = keys_module.key_digest

    def weak(data, salt):
        return real(data, salt) if salt == 2 else bytes(7) + real(data, salt)[:1]

    monkeypatch.setattr(keys_module, 'key_digest', weak)
    keys = [f'k{i}' for i in range(40)]
    samples, num = write_sample_files(tmp_path, keys)
    assert samples.key_salt == 2
    assert KeyTable(tmp_path, num, samples).find(keys) == list(range(40))
    monkeypatch.setattr(keys_module, 'key_digest', lambda data, salt: bytes(8))
    with pytest.raises(StoreError, match='collide'):
        write_sample_files(tmp_path, keys)


def test_a_strange_key_with_a_known_hash_is_not_found(tmp_path, monkeypatch):
    found = table(tmp_path, KEYS)
    real = keys_module.key_digest
    monkeypatch.setattr(keys_module, 'key_digest',
                        lambda data, salt: real(b'a' if data == b'impostor' else data, salt))
    assert found.find(['a', 'impostor']) == [1, -1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=12)
                .filter(lambda key: not key.startswith('/') and '..' not in key.split('/')),
                min_size=1, max_size=60, unique=True), st.text(max_size=5))
def test_any_keys(tmp_path_factory, keys, other):
    path = tmp_path_factory.getbasetemp() / 'any_keys'
    path.mkdir(exist_ok=True)
    found = table(path, keys)
    assert found.find(keys) == list(range(len(keys)))
    assert [found.key(i) for i in range(len(keys))] == keys
    assert found.find([other]) == [keys.index(other) if other in keys else -1]
