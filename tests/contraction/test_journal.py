"""A journal grows line by line, whatever a killed process or a full disk has left at its end."""
import pytest

from mmtinyvit.contraction.journal import Journal
from mmtinyvit.errors import UserError


def test_a_torn_line_is_cut_off_before_the_next(tmp_path):
    path = tmp_path / 'journal.jsonl'
    Journal(path).append(event='a', number=1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "b", "num')
    journal = Journal(path)
    assert journal.lines == [dict(event='a', number=1)]
    assert path.read_bytes() == whole + b'{"event": "b", "num'  # a reader changes nothing: somebody may be writing
    journal.append(event='c')
    journal.append(event='d')
    assert path.read_bytes() == whole + b'{"event": "c"}\n{"event": "d"}\n'
    assert Journal(path).find(event='d') == dict(event='d') and Journal(path).find(event='b') is None


def test_begun_anew(tmp_path):
    path = tmp_path / 'journal.jsonl'
    path.write_bytes(b'{"event": "a"}\n{"ev')
    journal = Journal(path)
    journal.clear()
    journal.append(event='b')
    assert path.read_bytes() == b'{"event": "b"}\n'


def test_a_full_disk(tmp_path):
    path = tmp_path / 'journal.jsonl'
    path.symlink_to('/dev/full')
    journal = Journal(tmp_path / 'other.jsonl')
    journal.path = path
    with pytest.raises(UserError, match=r'journal.jsonl cannot be written to \(No space left on device\): mend that'):
        journal.append(event='a')
