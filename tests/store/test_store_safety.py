"""What a store must not do whatever is in it, and what a power cut or a read-only disk must not break."""
import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from store_teacher import KEYS, WORKERS, contents, manifest, save

from mmtinyvit.store import LogitStore, LogitWriter, StoreError, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.layout import finished_name

WATCHED = '''
import json, sys
events, watching = [], False
def note(event, args):
    runs = event in ('exec', 'compile', 'pickle.find_class', 'marshal.load', 'marshal.loads', 'os.system', 'os.exec',
                     'os.posix_spawn', 'subprocess.Popen', 'socket.connect', 'ctypes.dlopen')
    writes = event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+')
    if watching and (runs or writes):
        events.append([event, str(args[0])[:100]])
sys.addaudithook(note)
from mmtinyvit.store import LogitStore, StoreError, verify_store
import mmtinyvit.store.codecs, mmtinyvit.store.admin.summary
paths, key = json.loads(sys.argv[1])
LogitStore(paths[0]).prepare()  # of a sound store: Numba brings in the library's own loops, as Python does its modules
refused, watching = 0, True
for path in paths:
    findings = [finding.problem for finding in verify_store(path) if finding.problem]
    try:
        store = LogitStore(path)
        store.read(0, [key]), store.canaries(0, 0), store.coverage()
    except StoreError:
        refused += bool(findings)
watching = False
watching = True
compile('1', 'seen', 'eval')
print(json.dumps([refused, events]))
'''


class Exploit:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch /tmp/mmtinyvit-was-here',)


def test_nothing_in_a_store_is_run(saved, tmp_path):
    """Each file of a store in turn is a pickle that runs a command; none is unpickled, compiled or run."""
    paths = [shutil.copytree(saved, tmp_path / 'sound')]
    for number, (name, payload) in enumerate(
            (name, payload) for name in ('manifest.json', 'samples.txt', 'samples.idx', 'view-0000/shard-00000.logits')
            for payload in (pickle.dumps(Exploit()), b'\x93NUMPY' + pickle.dumps(Exploit()) * 9,
                            b'__import__("os").system("touch /tmp/mmtinyvit-was-here")')):
        paths.append(shutil.copytree(saved, tmp_path / str(number)))
        (paths[-1] / name).write_bytes(payload)
    done = subprocess.run([sys.executable, '-c', WATCHED, json.dumps([list(map(str, paths)), KEYS[0]])], text=True,
                          capture_output=True, env=os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path)), check=True)
    refused, events = json.loads(done.stdout)
    assert refused == 12
    assert [event for event, _ in events] == ['compile']  # that of the test, which shows that the hook works
    assert not os.path.exists('/tmp/mmtinyvit-was-here')


def test_a_store_leads_nowhere_else(saved, tmp_path):
    """Links and names in a store that point out of it are not followed when it is copied or checked."""
    path = shutil.copytree(saved, tmp_path / 's')
    for name in ('view-0003/../../../x', 'view-00000', 'view-0000/shard-00001.logits.bak', 'view-0000/shard-1.logits'):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if '..' not in name:
            (path / name).write_bytes(b'stranger')
    copy_store(path, tmp_path / 'copy', views=[0, 2])
    assert contents(tmp_path / 'copy') == contents(saved)
    assert not any(finding.problem for finding in verify_store(path))


@pytest.mark.parametrize('name', ['samples.txt', 'samples.idx', 'manifest.json'])
@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_store_exists_only_once_its_samples_do(saved, tmp_path, monkeypatch, step, name):
    """Creation that fails at any of its files leaves no store, and is taken up again."""
    real = getattr(os, step)

    def fail(*args):
        path = args[1] if step == 'replace' else os.readlink(f'/proc/self/fd/{args[0]}')
        if finished_name(Path(path).name) == name or Path(path).name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match='could not be accessed'):
            LogitWriter(tmp_path / 's', manifest(), KEYS)
    assert name not in contents(tmp_path / 's') and 'manifest.json' not in contents(tmp_path / 's')
    with pytest.raises(StoreError, match='There is no store at'):
        LogitStore(tmp_path / 's')
    save(tmp_path / 's', views=(0, 2))
    assert contents(tmp_path / 's') == contents(saved)


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_download_that_fails_is_not_kept(tmp_path, monkeypatch, saved, step):
    store = LogitStore(f'file://{saved}', cache=tmp_path / 'cache')
    store.key(0)

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match='The cache .* cannot be used'):
            store.read_positions(0, [0])
    assert not list((tmp_path / 'cache').glob('stores/*/view-0000/*'))
    assert store.read_positions(0, [0]).index.shape == (1, 5)


@pytest.mark.parametrize('code', [errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing(saved, tmp_path, monkeypatch, code):
    """Where no file may be opened for writing, a store is read and not written."""
    path, real = shutil.copytree(saved, tmp_path / 's'), os.open

    def read_only(name, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(name).startswith(str(tmp_path)):
            raise OSError(code, os.strerror(code), str(name))
        return real(name, flags, *args, **kwargs)

    monkeypatch.setattr(os, 'open', read_only)
    before = contents(path)
    with pytest.raises(StoreError, match=f'Cannot write to the store {path} .*choose a folder that you may write to'):
        save(path, views=(1,))
    assert (LogitStore(path).read(0, KEYS).index == LogitStore(saved).read(0, KEYS).index).all()
    assert not any(finding.problem for finding in verify_store(path)) and contents(path) == before


@pytest.mark.parametrize('code', [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize('step', ['listdir', 'scandir'])
def test_a_folder_that_cannot_be_listed(saved, tmp_path, monkeypatch, step, code):
    path, real = shutil.copytree(saved, tmp_path / 's'), getattr(os, step)
    store = LogitStore(path)
    writer = LogitWriter(path, manifest(), KEYS)

    def fail(place='.'):
        if str(place).startswith(str(path)):
            raise OSError(code, os.strerror(code), str(place))
        return real(place)

    monkeypatch.setattr(os, step, fail)
    way_out = 'ulimit -n' if code == errno.EMFILE else 'check the disk'
    words = f'The store {path} cannot be read .*{os.strerror(code)}.*: .*{way_out}'
    acts = [store.num_bytes, lambda: copy_store(saved, path)] if step == 'scandir' else [
        store.coverage, lambda: list(writer.missing([0])), lambda: list(verify_store(path))]
    for act in acts:
        with pytest.raises(StoreError, match=words):
            act()


def read_with_few_files(path, pipe):
    store = LogitStore(path)
    open_now = len(os.listdir('/proc/self/fd'))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 3, open_now + 3))
    said = []
    for act in (lambda: store.read(0, KEYS), lambda: LogitStore(path), lambda: LogitWriter(path, manifest(), KEYS)):
        try:
            act()
        except StoreError as error:
            said.append(str(error))
    pipe.send(said)


def test_too_many_open_files_are_a_sentence(saved, tmp_path):
    here, there = WORKERS.Pipe()
    process = WORKERS.Process(target=read_with_few_files, args=(shutil.copytree(saved, tmp_path / 's'), there))
    process.start()
    said = here.recv() if here.poll(60) else []
    process.join()
    assert len(said) == 3 and all('ulimit -n' in sentence for sentence in said), said
