"""The compiled loops of the codec ``smallest``: against Python's integers, and on bits that no encoder writes."""
import errno
import importlib.util
import os

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtinyvit.store import make_codec
from mmtinyvit.store.codecs import bit_loops
from mmtinyvit.store.codecs.bit_loops import find_ones, num_words, read_number


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.data())
def test_bits_are_those_of_a_long_integer(data, draw):
    words = np.zeros(num_words(len(data)), np.uint64)
    words.view(np.uint8)[:len(data)] = np.frombuffer(data, np.uint8)
    number, end = int.from_bytes(data, 'little'), 8 * len(data)
    at, width = draw.draw(st.integers(0, end - 1)), draw.draw(st.integers(0, 63))
    assert read_number(words, at, width) == number >> at & (1 << width) - 1
    places, most = np.empty(end + 1, np.int64), draw.draw(st.integers(0, end))
    last = draw.draw(st.integers(0, end))
    expected = [bit for bit in range(at, last) if number >> bit & 1][:most]
    assert find_ones(words, at, last, places, most) == len(expected)
    assert places[:len(expected)].tolist() == expected


@pytest.fixture
def double(tmp_path, monkeypatch):
    """Compiles a loop anew, as a process of its own would, with a cache in a folder of its own."""
    monkeypatch.setattr(numba.config, 'CACHE_DIR', str(tmp_path / 'cache'))
    path = tmp_path / 'loop.py'
    path.write_text('from mmtinyvit.store.codecs.bit_loops import compiled\n\n\n'
                    '@compiled\ndef double(x):\n    return 2 * x\n')

    def compile_anew():
        spec = importlib.util.spec_from_file_location('loop', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.double(21) == 42
        return sum(module.double.stats.cache_hits.values())

    compile_anew.cache = tmp_path / 'cache'
    return compile_anew


def cached(folder):
    return sorted(file for file in folder.rglob('*') if file.is_file())


def test_what_was_compiled_is_kept(double):
    assert [double(), double()] == [0, 1]
    assert [file.suffix for file in cached(double.cache)] == ['.nbc', '.nbi']


@pytest.mark.parametrize('suffix', ['.nbc', '.nbi'])
@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.99])
def test_what_was_half_written_is_compiled_again(double, suffix, share):
    double()
    file, = (file for file in cached(double.cache) if file.suffix == suffix)
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    assert [double(), double()] == [0, 1]


def test_where_the_disk_is_full_it_is_compiled_all_the_same(double, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', fail)
        assert [double(), double()] == [0, 0]
    assert cached(double.cache) == []


def test_where_nothing_can_be_cached_it_is_compiled_all_the_same(double, monkeypatch):
    def refuse(function):
        raise RuntimeError('cannot cache function: no locator available')

    monkeypatch.setattr(bit_loops, '_Cache', refuse)
    assert [double(), double()] == [0, 0]


TOPK, CLASSES = 3, 20
ZERO_LEVELS = '1' * 3  # three unary parts of zero, which Rice code 0 needs no more for


def record(relative=0, code=0, gap_bits=0, tail=100, count=3, rest=''):
    """One packed record of 3 of 20 classes; ``rest`` is what follows the head, lowest bit first."""
    head = [(relative, 1), (0, 5), (code, 3), (gap_bits, 4), (1, 4), (tail, 10), (count - 1, 2)]
    bits = ''.join(f'{value:0{width}b}'[::-1] for value, width in head) + rest
    size = make_codec('smallest', TOPK, CLASSES).record_bytes
    return np.frombuffer(int(bits[::-1], 2).to_bytes(size, 'little'), np.uint8)[None]


def test_a_record_written_by_hand():
    one = record(rest='1' + '001' + '01' + ZERO_LEVELS)  # gaps 0, 2, 1
    assert make_codec('smallest', TOPK, CLASSES).decode(one).index.tolist() == [[0, 3, 5]]
    two = record(relative=1, rest='011' + '0001' + ZERO_LEVELS)  # the reference's second and third, and 3
    with pytest.raises(ValueError, match='the same class twice'):
        make_codec('smallest', TOPK, CLASSES).decode(two, one)
    two = record(relative=1, rest='101' + '0001' + ZERO_LEVELS)
    assert make_codec('smallest', TOPK, CLASSES).decode(two, one).index.tolist() == [[0, 3, 5]]


@pytest.mark.parametrize('fault, changes, reference', [
    ('not K classes', dict(count=4, rest='1111'), None),
    ('not K classes', dict(gap_bits=15, rest='1'), None),
    ('not K classes', dict(rest='11'), None),
    ('not K classes', dict(rest='111'), None),
    ('not K classes', dict(relative=1, count=1, rest='111'), 3),
    ('a class out of range', dict(rest='1' + '1' + '0' * 18 + '1' + ZERO_LEVELS), None),
    ('a level out of range', dict(code=4, rest='111' + '1' + '1' + '0' * 17 + '1'), None),
    ('a level out of range', dict(code=3, rest='111' + '1' + '1' + '0' * 6 + '1'), None),
    ('no mass but the tail', dict(tail=1023, rest='111' + ZERO_LEVELS), None),
    ('a reference that is not there', dict(relative=1, rest='111' + ZERO_LEVELS), None),
    ('a class that the reference lacks', dict(relative=1, rest='001' + '11' + ZERO_LEVELS), 2),
])
def test_what_no_encoder_writes_is_refused(fault, changes, reference):
    codec = make_codec('smallest', TOPK, CLASSES)
    known = None if reference is None else record(count=reference, rest='1' * 2 * reference)
    with pytest.raises(ValueError, match=fault):
        codec.decode(record(**changes), known)


def test_a_reference_must_not_be_relative_itself():
    relative = record(relative=1, rest='111' + ZERO_LEVELS)
    with pytest.raises(ValueError, match='a reference that is not there'):
        make_codec('smallest', TOPK, CLASSES).decode(relative, relative)
