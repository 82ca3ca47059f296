"""Downloads from a real server that drops, lies and changes its mind: a file arrives whole and right, or not at all."""
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from file_server import file_server

from mmtinyvit.errors import UserError
from mmtinyvit.zoo import download
from mmtinyvit.zoo.download import fetch, recorded_sha256

CONTENT = random.Random(0).randbytes(20_000)
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, 'PAUSE', 0.001)
    with file_server() as server:
        server.files['/net.pth'] = CONTENT
        yield server


@pytest.fixture
def url(server):
    return f'{server.url}/net.pth'


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'cache' / 'net.pth'


def left(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir())


# ---------------------------------------------------------------- what arrives
def test_a_file_arrives_once_with_its_checksum(server, url, file):
    seen = []
    assert fetch(url, file, report=lambda done, total: seen.append((done, total))) == file
    assert file.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    assert left(file) == ['net.pth', 'net.pth.sha256']
    subprocess.run(['sha256sum', '--check', '--quiet', 'net.pth.sha256'], cwd=file.parent, check=True)
    fetch(url, file, SUM)
    assert len(server.requests) == 1


def test_a_dropped_connection_is_gone_on_with(server, url, file):
    server.drop_after = [7000, 5000, 0, 1]
    fetch(url, file, SUM[:8])
    assert file.read_bytes() == CONTENT and recorded_sha256(file) == SUM
    assert [wanted for _, wanted in server.requests] == [
        None, 'bytes=7000-', 'bytes=12000-', 'bytes=12000-', 'bytes=12001-']


def test_a_server_without_ranges_starts_over(server, url, file):
    server.ranges, server.drop_after = False, [7000, 15000]
    fetch(url, file, SUM)
    assert file.read_bytes() == CONTENT


def test_giving_up_keeps_what_has_arrived(server, url, file):
    server.drop_after = [7000, *[0] * download.TRIES]
    with pytest.raises(UserError, match='cannot be downloaded .the connection ended after 7,000 of 20,000 bytes.: '
                       'check the connection and run it again, it goes on'):
        fetch(url, file)
    assert left(file) == ['net.pth.part', 'net.pth.part.version']
    server.drop_after, server.requests = [], []
    fetch(url, file)
    assert file.read_bytes() == CONTENT and server.requests == [('/net.pth', 'bytes=7000-')]
    assert left(file) == ['net.pth', 'net.pth.sha256']


@pytest.mark.parametrize('now', [CONTENT[::-1], CONTENT[:5000][::-1]], ids=['same size', 'shorter'])
def test_halves_of_two_versions_are_never_joined(server, url, file, now):
    server.drop_after = [7000, *[0] * download.TRIES]
    with pytest.raises(UserError):
        fetch(url, file)
    server.drop_after, server.files['/net.pth'] = [], now
    fetch(url, file)
    assert file.read_bytes() == now


def test_another_address_does_not_go_on_with_the_part(server, url, file):
    server.files['/other/net.pth'] = CONTENT[::-1]
    server.drop_after = [7000, *[0] * download.TRIES]
    with pytest.raises(UserError):
        fetch(url, file)
    server.drop_after = []
    fetch(f'{server.url}/other/net.pth', file)
    assert file.read_bytes() == CONTENT[::-1]


def test_a_busy_server_is_asked_again(server, url, file):
    server.statuses = [503, 429, 500]
    fetch(url, file, SUM)
    assert file.read_bytes() == CONTENT and len(server.requests) == 4


def test_a_killed_process(server, url, file):
    server.pause = 0.05
    code = f'from pathlib import Path; from mmtinyvit.zoo.download import fetch; fetch({url!r}, Path({str(file)!r}))'
    process = subprocess.Popen([sys.executable, '-c', code])
    part = file.with_name('net.pth.part')
    while process.poll() is None and not (server.requests and part.exists()):
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not file.exists()
    server.pause = 0
    fetch(url, file, SUM)
    assert file.read_bytes() == CONTENT and server.requests[1][1].startswith('bytes=')


def test_a_full_disk(server, url, file):
    """As a process meets it that may not write more than 8,000 bytes."""
    code = ('import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n'
            'from pathlib import Path; from mmtinyvit.zoo.download import fetch, UserError\n'
            f'try: fetch({url!r}, Path({str(file)!r}))\nexcept UserError as error: print(error)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'is full (File too large)' in done.stdout, done.stdout
    assert file.with_name('net.pth.part').stat().st_size == 8000 and not file.exists()
    fetch(url, file, SUM)
    assert file.read_bytes() == CONTENT and server.requests[-1] == ('/net.pth', 'bytes=8000-')


def test_several_at_once_download_once(server, url, file):
    server.pause = 0.001
    threads = [threading.Thread(target=fetch, args=(url, file, SUM)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() == CONTENT and len(server.requests) == 1
    assert left(file) == ['net.pth', 'net.pth.sha256']


# ---------------------------------------------------------------- what is refused
def test_a_wrong_checksum(url, file):
    with pytest.raises(UserError, match=f'has the checksum {SUM} instead of 12345678: nothing was kept; try again'):
        fetch(url, file, '12345678')
    assert left(file) == []


def test_an_unfit_file(url, file):
    def refuse(path):
        assert path.read_bytes() == CONTENT
        raise UserError('no')

    with pytest.raises(UserError, match='no'):
        fetch(url, file, check=refuse)
    assert left(file) == []


def test_a_file_that_has_changed_here_or_there(server, url, file):
    """Without a published checksum, that of the first download counts."""
    fetch(url, file)
    file.write_bytes(CONTENT[:-1])
    fetch(url, file)
    assert file.read_bytes() == CONTENT and len(server.requests) == 2
    file.unlink()
    server.files['/net.pth'] = CONTENT[::-1]
    with pytest.raises(UserError, match=f'instead of {SUM} of the first download, which .*net.pth.sha256 holds'):
        fetch(url, file)
    assert left(file) == ['net.pth.sha256']


def test_an_address_that_does_not_exist(server, file):
    with pytest.raises(UserError, match='nothing.pth cannot be downloaded .HTTP 404 Not Found.: check the address'):
        fetch(f'{server.url}/nothing.pth', file)
    assert len(server.requests) == 1 and not file.exists()


@pytest.mark.parametrize('offline', ['http://127.0.0.1:9/net.pth', 'http://no-such-host.invalid/net.pth'])
def test_offline(offline, file, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with pytest.raises(UserError, match='cannot be reached .*: is this machine online?'):
        fetch(offline, file)


def test_a_folder_that_cannot_be_made(url, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='The folder .*file/folder for checkpoints cannot be used .*MMTINYVIT_CACHE'):
        fetch(url, tmp_path / 'file' / 'folder' / 'net.pth')
