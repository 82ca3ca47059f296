"""A store of IN-21K for 90 epochs, sparse on disk: opening must not depend on how much is in it."""
import hashlib
import os
import subprocess
import sys

import pytest
from store_teacher import dense, manifest, sparsify

from mmtinyvit.store import LogitWriter, Manifest
from mmtinyvit.store.keys import INDEX_HEADER, SampleFiles, index_header
from mmtinyvit.store.layout import view_name
from mmtinyvit.store.manifest import write_manifest

SAMPLES, VIEWS, TEXT_BYTES = 14_197_122, 90, 14_197_122 * 30

MEASURE = '''
import sys
from mmtinyvit.store import LogitStore
opened = []
def private():
    lines = open('/proc/self/smaps_rollup').read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('Private')) * 1024
before = private()
sys.addaudithook(lambda event, args: opened.append(args[0]) if event in ('open', 'os.listdir', 'os.scandir') else None)
store = LogitStore(sys.argv[1])
absent = [store.find([f'n01440764/absent_{i}.JPEG'])[0] for i in range(100)].count(-1)
print(absent, len(opened), private() - before)
assert len(store.views) == 90
'''

FORK = '''
import os, sys
from mmtinyvit.store import LogitStore
stores = [LogitStore(path) for path in sys.argv[1:]]
for store in stores:
    store.prepare()
if os.fork() == 0:
    for store in stores:
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
        index.write(index_header(0, SAMPLES, TEXT_BYTES, hashlib.sha256().hexdigest()))
        index.seek(INDEX_HEADER.size + 8 * SAMPLES)
        index.write(TEXT_BYTES.to_bytes(8, 'little'))
        index.truncate(INDEX_HEADER.size + 8 * (SAMPLES + 1) + 12 * SAMPLES)
    for view in range(VIEWS):  # what is in them is not looked at
        (path / view_name(view)).mkdir()
    return path


def test_opening_and_looking_up_touch_neither_shards_nor_the_list_of_samples(huge):
    """What is mapped counts as the process's own memory once it is read, and the list of samples has 400 MB."""
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    run = subprocess.run([sys.executable, '-c', MEASURE, huge], env=env, capture_output=True, text=True, check=True)
    absent, opened, private = map(int, run.stdout.split())
    assert absent == 100
    assert opened < 20
    assert private < 10e6


def test_a_forked_worker_reads_with_the_loops_of_its_parent(tmp_path):
    keys, paths = [str(i) for i in range(40)], [tmp_path / 'compact', tmp_path / 'smallest']
    for path in paths:
        with LogitWriter(path, dict(topk=10, num_classes=100, codec=path.name), keys) as writer:
            unit = writer.unit(0, 0)
            writer.write_shard(unit, sparsify(dense(0, range(unit.count), 100), 10))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    run = subprocess.run([sys.executable, '-c', FORK, *paths], env=env, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20e6
