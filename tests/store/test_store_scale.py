"""A store of IN-21K for 90 epochs, sparse on disk: opening must not depend on how much is in it."""
import hashlib
import os
import random
import subprocess
import sys
import time
from functools import partial

import pytest
from store_teacher import dense, manifest, sparsify

from mmtinyvit.store import LogitStore, LogitWriter, Manifest, Record, StoreError
from mmtinyvit.store.keys import INDEX_HEADER, SampleFiles, index_header
from mmtinyvit.store.layout import shard_path
from mmtinyvit.store.manifest import write_manifest

SAMPLES, VIEWS, TEXT_BYTES = 14_197_122, 90, 14_197_122 * 30

MEASURE = '''
import sys, time
import mmtinyvit.store
from mmtinyvit.store import LogitStore
def private():
    lines = open('/proc/self/smaps_rollup').read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('Private')) * 1024
before, start = private(), time.perf_counter()
store = LogitStore(sys.argv[1])
views = store.views
seconds = time.perf_counter() - start
assert len(views) == 90
print(seconds, private() - before)
'''

FORK = '''
import os, sys
from mmtinyvit.store import LogitStore
store = LogitStore(sys.argv[1])
store.prepare()
if os.fork() == 0:
    for i in range(40):
        store.read(0, [str(i)])
    lines = open('/proc/self/smaps_rollup').read().splitlines()
    print(sum(int(line.split()[1]) for line in lines if line.startswith('Private')) * 1024)
else:
    os.wait()  # the parent's pages stay shared with the worker until this returns
'''


@pytest.fixture(scope='module')
def huge(tmp_path_factory):
    path = tmp_path_factory.mktemp('huge')
    request = Manifest.parse(manifest(topk=100, num_classes=21841, samples_per_shard=None), 'it')
    write_manifest(path, request.settle(SAMPLES, SampleFiles(hashlib.sha256().hexdigest(), 'a' * 64, 0)))
    with open(path / 'samples.txt', 'wb') as text, open(path / 'samples.idx', 'wb') as index:
        text.truncate(TEXT_BYTES)
        index.write(index_header(0, SAMPLES, TEXT_BYTES))
        index.seek(INDEX_HEADER.size + 8 * SAMPLES)
        index.write(TEXT_BYTES.to_bytes(8, 'little'))
        index.truncate(INDEX_HEADER.size + 8 * (SAMPLES + 1) + 12 * SAMPLES)
    for view in range(VIEWS):
        for shard in range(217):
            file = shard_path(path, view, shard)
            file.parent.mkdir(exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY))
    return path


def scan_seconds(path) -> float:
    """How long it takes to go through the list of samples once: what opening and look-ups must not do."""
    start = time.perf_counter()
    with open(path / 'samples.txt', 'rb') as text:
        assert not any(piece.count(b'\n') for piece in iter(partial(text.read, 2**24), b''))  # a hole
    return time.perf_counter() - start


def test_opening_costs_neither_time_nor_memory(huge):
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    runs = [subprocess.run([sys.executable, '-c', MEASURE, huge], env=env, capture_output=True, text=True, check=True)
            for _ in range(3)]
    seconds, private = (min(column) for column in zip(*(map(float, run.stdout.split()) for run in runs), strict=True))
    assert seconds < scan_seconds(huge) / 10
    assert private < 10e6


def test_absent_samples_are_found_out_without_a_scan(huge):
    store, start = LogitStore(huge), time.perf_counter()
    for _ in range(100):
        with pytest.raises(StoreError):
            store.read(random.randrange(90), ['n01440764/absent.JPEG'])
    assert time.perf_counter() - start < scan_seconds(huge) / 2


@pytest.mark.parametrize('codec', ['compact', 'smallest'])
def test_a_forked_worker_reads_with_the_loops_of_its_parent(codec, tmp_path):
    keys = [str(i) for i in range(40)]
    with LogitWriter(tmp_path, dict(topk=10, num_classes=100, codec=codec), keys) as writer:
        for unit in writer.missing([0]):
            writer.write_shard(unit, Record(*sparsify(dense(0, range(unit.first, unit.first + unit.count), 100), 10)))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    run = subprocess.run([sys.executable, '-c', FORK, tmp_path], env=env, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20e6
