"""tools/download_checkpoints.py: by name and pattern, from a mirror on this machine."""
import hashlib
import subprocess
from pathlib import Path

import pytest
import torch
from file_server import file_server

from mmtinyvit.zoo.index import entries

TINY, DEIT = 'mmtinyvit-5m_3rdparty_in1k', 'mmtinyvit-deit-tiny_3rdparty_in1k'


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path('executed'), )


@pytest.fixture
def server(tmp_path):
    with file_server() as server:
        for entry in entries().values():
            torch.save(dict(model=dict(weight=torch.ones(3) * len(entry.name))), tmp_path / 'net.pth')
            server.files[f'/{entry.file_name}'] = (tmp_path / 'net.pth').read_bytes()
        yield server


def test_by_pattern_and_name(run_tool, server, tmp_path):
    folder = tmp_path / 'checkpoints'
    ended = run_tool('download_checkpoints', 'mmtinyvit-*m_3rdparty_in1k', TINY, '--folder', folder, '--mirror',
                     server.url)
    assert ended.status == 0 and 'recorded, none is' in ended.out
    names = {f'tiny_vit_{arch}_1k.pth' for arch in ('5m', '11m', '21m')}
    assert {path.name for path in folder.iterdir()} == names | {f'{name}.sha256' for name in names}
    for name in names:
        assert (folder / name).read_bytes() == server.files[f'/{name}']
        subprocess.run(['sha256sum', '--check', '--quiet', f'{name}.sha256'], cwd=folder, check=True)
    assert len(server.requests) == 3
    run_tool('download_checkpoints', 'mmtinyvit-*m_3rdparty', '--folder', folder, '--mirror', f'{server.url}/')
    assert len(server.requests) == 3


def test_the_cache_can_be_moved(run_tool, server, tmp_path, monkeypatch):
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    run_tool('download_checkpoints', TINY, '--mirror', server.url)
    assert (tmp_path / 'cache' / 'checkpoints' / 'tiny_vit_5m_1k.pth').is_file()


def test_a_list_needs_no_network(run_tool):
    ended = run_tool('download_checkpoints', '--list')
    assert ended.status == 0
    assert {line.split()[0] for line in ended.out.splitlines() if line.startswith('mmtinyvit')} == set(entries())
    assert 'Published by others' in ended.out
    assert 'deit' not in run_tool('download_checkpoints', '--list', 'mmtinyvit-5m').out


def test_what_goes_wrong(run_tool, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'checkpoints'

    def sentence(*args) -> str:
        text = run_tool('download_checkpoints', *args, '--folder', folder, '--mirror', server.url).sentence
        assert not folder.exists() or not list(folder.iterdir())
        return text

    content = server.files['/deit_tiny_patch16_224-a1311bcf.pth']
    assert f'has the checksum {hashlib.sha256(content).hexdigest()} instead of a1311bcf' in sentence(DEIT)
    assert 'There is no published model mmtinyvit-6m*' in sentence('mmtinyvit-6m*')
    whole = server.files['/tiny_vit_5m_1k.pth']
    server.files['/tiny_vit_5m_1k.pth'] = whole[:len(whole) // 2]
    assert 'tiny_vit_5m_1k.pth is no checkpoint of tensors and plain values, or it is damaged' in sentence(TINY)
    torch.save(dict(model=Malicious()), 'bad.pth')
    server.files['/tiny_vit_5m_1k.pth'] = Path('bad.pth').read_bytes()
    assert 'is no checkpoint of tensors and plain values' in sentence(TINY)
    assert not Path('executed').exists()
    del server.files['/tiny_vit_5m_1k.pth']
    assert 'tiny_vit_5m_1k.pth cannot be downloaded (HTTP 404 Not Found): check the address' in sentence(TINY)
    server.url = 'http://127.0.0.1:9'
    assert 'cannot be reached' in sentence(TINY) and 'is this machine online?' in sentence(TINY)


def test_a_name_is_needed(run_tool):
    ended = run_tool('download_checkpoints')
    assert ended.status == 2 and 'name a model, or --list them' in ended.err
