"""Killed at any moment, a store holds whole shards and nothing else, and ends up the same."""
import random
import resource
import subprocess
import time

import numpy as np
import pytest
from store_teacher import KEYS, WORKERS, contents, manifest, save

from mmtinyvit.store import LogitStore, LogitWriter, Record, StoreError, verify_store

VIEWS = (0, 2)


def run(path, num_processes, files=None, seconds=0.0):
    """Saves with ``num_processes``; kills them all ``seconds`` after the store has so many ``files``, if given."""
    processes = [WORKERS.Process(target=save, args=(path, VIEWS, rank, num_processes, 0.005, True), daemon=True)
                 for rank in range(num_processes)]
    for process in processes:
        process.start()
    if files is not None:
        while sum(file.is_file() for file in path.rglob('*')) < files and any(p.is_alive() for p in processes):
            time.sleep(0.0005)
        time.sleep(seconds)
        for process in processes:
            process.kill()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_killed_at_random_moments_the_store_ends_up_the_same(tmp_path, saved):
    dice = random.Random(0)
    begun, reference = 0, contents(saved)
    for attempt in range(6):
        path, files, num_processes = tmp_path / str(attempt), 0, 1 + attempt % 2
        for _ in range(3):
            files += 1 + dice.randrange(8)  # of 24
            run(path, num_processes, files, dice.uniform(0, 0.01))
            if (path / 'manifest.json').exists():
                assert [finding for finding in verify_store(path) if finding.problem] == []
                whole = {name: data for name, data in contents(path).items() if not name.endswith('.tmp')}
                assert whole.items() <= reference.items()
                begun += 0 < len(whole) - 3 < 20
        assert run(path, num_processes) == [0] * num_processes
        assert contents(path) == reference
    assert begun >= 6, 'the kills came too early or too late to show anything'


@pytest.mark.parametrize('leftover', ['manifest.json.tmp', 'samples.txt.tmp', 'samples.txt', 'samples.idx',
                                      'view-0000/shard-00003.logits.tmp', 'samples.txt.node-1-77.tmp',
                                      'view-0000/shard-00003.logits.node-1-77.tmp'])
def test_every_kind_of_leftover_is_mended(tmp_path, saved, leftover):
    path = tmp_path / 's'
    if leftover.startswith('view'):
        save(path, views=[2])
    (path / leftover).parent.mkdir(parents=True, exist_ok=True)
    (path / leftover).write_bytes(b'half a fi')
    save(path, VIEWS)
    assert contents(path) == contents(saved)


def big(path, num=4000):
    with LogitWriter(path, dict(topk=20, num_classes=100, codec='exact', samples_per_shard=500),
                     [str(i) for i in range(num)]) as writer:
        index = np.tile(np.arange(20), (500, 1))
        log_prob = np.full((500, 20), np.log(0.05), np.float32)
        for unit in writer.missing([0]):
            writer.write_shard(unit, Record(index, log_prob, np.zeros(500, np.float32)))


def limited(path, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        big(path, num=500)
    except StoreError as error:
        pipe.send(str(error))


def test_a_file_size_limit_reads_as_a_full_disk(tmp_path):
    here, there = WORKERS.Pipe()
    process = WORKERS.Process(target=limited, args=(tmp_path / 's', there), daemon=True)
    process.start()
    assert here.poll(60)
    assert f'The disk is full (File too large) while writing the store {tmp_path}/s: free 1 MB' in here.recv()
    process.join()
    assert sorted(contents(tmp_path / 's')) == ['manifest.json', 'samples.idx', 'samples.txt']


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system; only root may."""
    path = tmp_path / 'disk'
    path.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'mounting a tmpfs is not allowed here: {done.stderr.strip()}')
    yield path
    subprocess.run(['umount', '-l', path], check=True)


def test_full_disk(mounted, tmp_path):
    with pytest.raises(StoreError, match=r'The disk is full \(No space left on device\) while writing the store '
                                         r'.*: free 1 MB or more and start again; finished shards are kept'):
        big(mounted / 's')
    there = LogitStore(mounted / 's').coverage()[0]
    assert 0 < there.present < there.expected == 8
    assert not [name for name in contents(mounted / 's') if name.endswith('.tmp')]
    assert not any(finding.problem for finding in verify_store(mounted / 's'))
    subprocess.run(['mount', '-o', 'remount,size=2m', mounted], check=True)
    big(mounted / 's')
    big(tmp_path / 's')
    assert contents(mounted / 's') == contents(tmp_path / 's')


def test_full_disk_at_creation(mounted):
    with pytest.raises(StoreError, match='The disk is full'):
        LogitWriter(mounted / 's', manifest(), [f'{i:0100d}' for i in range(4000)])
    assert [path.name for path in (mounted / 's').iterdir()] == ['.lock']


def test_read_only_folder(mounted, saved):
    save(mounted / 's')
    subprocess.run(['mount', '-o', 'remount,ro', mounted], check=True)
    with pytest.raises(StoreError, match=r'Cannot write to the store .*/s \(Read-only file system\): choose a folder'):
        LogitWriter(mounted / 's', manifest(), KEYS)
    with pytest.raises(StoreError, match='Cannot write to the store'):
        LogitWriter(mounted / 'new', manifest(), KEYS)
    there, here = LogitStore(mounted / 's').read(0, KEYS), LogitStore(saved).read(0, KEYS)
    assert all((a == b).all() for a, b in zip(there[:3], here[:3], strict=True))
