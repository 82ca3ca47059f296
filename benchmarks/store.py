"""The store against the layout of the original TinyViT: bytes, error, speed, and what opening costs.

    python benchmarks/store.py                                # 3 minutes, 1.5 GB of temporary files
    MMTINYVIT_DATA=... python benchmarks/store.py             # adds real outputs of MobileNetV2 on real photos
    python benchmarks/store.py --only codecs --json store.json
    MMTINYVIT_DATA=... python benchmarks/store.py --only blocks     # zstd; needs the package zstandard

The baseline is our own short version of what the original does per record: a seek and a read, then ``numpy.frombuffer``
for the seed, 16-bit classes and half-precision probabilities, each copied, and the batch stacked for the loss.
"""
import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import compare, report
from store_blocks import blocks
from store_bytes import SIZES, codecs, views
from store_workers import workers
from teacher_outputs import sparsify, synthetic_outputs, synthetic_views

from mmtinyvit.store import LogitStore, LogitWriter, Manifest, Record, codec_names, make_codec
from mmtinyvit.store.keys import INDEX_HEADER, SampleFiles, index_header
from mmtinyvit.store.manifest import write_manifest

BATCH = 256


# ---------------------------------------------------------------- speed
def original_decode(records: list[bytes], topk: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch as the original reads it, record by record."""
    classes, probs = [], []
    for record in records:
        int(np.frombuffer(record[:4], np.int32)[0])
        classes.append(np.frombuffer(record[4:4 + 2 * topk], np.int16).copy())
        probs.append(np.frombuffer(record[4 + 2 * topk:], np.float16).copy())
    return np.stack(classes).astype(np.int64), np.stack(probs).astype(np.float32)


def original_write(path: Path, record: Record, num: int) -> None:
    """As the original writes: each record's seed, classes and probabilities become bytes and go into one file."""
    index, log_prob = record.index, record.log_prob
    with open(path, 'wb') as file:
        for start in range(0, num, len(index)):
            for classes, probs in zip(index[:num - start], np.exp(log_prob[:num - start]), strict=True):
                file.write(np.int32(start).tobytes() + classes.astype(np.int16).tobytes()
                           + probs.astype(np.float16).tobytes())


def decoding(json_file: str | None) -> None:
    """Records that lie in memory."""
    for topk, num_classes in SIZES:
        record = sparsify(synthetic_outputs(num_classes, 3, BATCH), topk)
        blobs = [bytes(4) + row[:-2].tobytes() for row in make_codec('exact', topk, num_classes).encode(record)]
        functions: dict[str, Callable[[], object]] = {'frombuffer loop': lambda b=blobs, k=topk: original_decode(b, k)}
        for name in codec_names():
            codec = make_codec(name, topk, num_classes)
            packed = codec.encode(record)
            functions[f'{name}, decode'] = lambda c=codec, p=packed: c.decode(p)
            functions[f'{name}, encode'] = lambda c=codec, r=record: c.encode(r)
            functions[f'{name}, decode one'] = lambda c=codec, p=packed[:1]: c.decode(p)
            if codec.relative:
                pair = [sparsify(part, topk) for part in synthetic_views(num_classes, 3, topk, 0.6, BATCH)]
                known = codec.encode(pair[0])
                packed = codec.encode(pair[1], known)
                functions[f'{name}, relative, decode'] = lambda c=codec, p=packed, k=known: c.decode(p, k)
                functions[f'{name}, relative, decode one'] = lambda c=codec, p=packed[:1], k=known[:1]: c.decode(p, k)
        rates(f'{BATCH} records in memory, K = {topk} of {num_classes}', functions, json_file)


def reading(folder: Path, json_file: str | None, num: int = 262_144, topk: int = 100, num_classes: int = 21841) -> None:
    """Records by key, in random order, from files in the page cache."""
    keys = [f'n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG' for i in range(num)]
    record = Record.concat([sparsify(synthetic_outputs(num_classes, 3, BATCH), topk)] * 16)
    request = dict(topk=topk, num_classes=num_classes, samples_per_shard=4096)
    with LogitWriter(folder / 'store', request, keys) as writer:
        start = time.perf_counter()
        for unit in writer.missing([0]):
            writer.write_shard(unit, record)
        written = num / (time.perf_counter() - start)
    start = time.perf_counter()
    original_write(folder / 'values.bin', record, num)
    original = num / (time.perf_counter() - start)
    store, table = LogitStore(folder / 'store'), {key: i for i, key in enumerate(keys)}
    start = time.perf_counter()
    assert not any(finding.problem for finding in store.verify())
    verified = num / (time.perf_counter() - start)
    size, values = 4 + 4 * topk, open(folder / 'values.bin', 'rb')
    dice = np.random.default_rng(0)

    def wanted() -> list[str]:
        return [keys[i] for i in dice.integers(0, num, BATCH)]

    def original_read() -> None:
        records = []
        for key in wanted():
            values.seek(size * table[key])
            records.append(values.read(size))
        original_decode(records, topk)

    rates(f'{BATCH} random records by key, K = {topk} of {num_classes}, checksums verified (not by the original)', {
        'seek, read, frombuffer': original_read, 'store, one batch': lambda: store.read(0, wanted()),
        'store, one by one': lambda: [store.read(0, [key]) for key in wanted()]}, json_file)
    report('Whole shards', {'original, write (not synced)': {'records/s': int(original)},
                            'write': {'records/s': int(written)}, 'verify': {'records/s': int(verified)}}, json_file)


def reading_relative(folder: Path, json_file: str | None, num: int = 16_384) -> None:
    """The codec smallest: the reference view, and one that is coded relative to it and shares 0.6 of the top 100."""
    keys = [f'n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG' for i in range(num)]
    pair = [sparsify(part, 100) for part in synthetic_views(21841, 3, 100, 0.6, BATCH)]
    request = dict(topk=100, num_classes=21841, samples_per_shard=4096, codec='smallest')
    codec, rows = make_codec('smallest', 100, 21841), {}
    codec.decode(codec.encode(pair[0]))  # brings in the compiled loops
    with LogitWriter(folder / 'store', request, keys) as writer:
        for view, name in enumerate(('reference view', 'another view')):
            start = time.perf_counter()
            for unit in writer.missing([view]):
                writer.write_shard(unit, Record.concat([pair[view]] * 16).row(slice(unit.count)))
            rows[f'write, {name}'] = {'records/s': int(num / (time.perf_counter() - start))}
    store, dice = LogitStore(folder / 'store'), np.random.default_rng(0)

    def wanted() -> list[str]:
        return [keys[i] for i in dice.integers(0, num, BATCH)]

    rates(f'smallest: {BATCH} random records by key, K = 100 of 21841, checksums verified', {
        'reference view, one batch': lambda: store.read(0, wanted()),
        'another view, one batch': lambda: store.read(1, wanted()),
        'reference view, one by one': lambda: [store.read(0, [key]) for key in wanted()],
        'another view, one by one': lambda: [store.read(1, [key]) for key in wanted()]}, json_file)
    start = time.perf_counter()
    assert not any(finding.problem for finding in store.verify())
    rows['verify'] = {'records/s': int(2 * num / (time.perf_counter() - start))}
    report('smallest: whole shards', rows, json_file)


def rates(title: str, functions: dict[str, Callable[[], object]], json_file: str | None) -> None:
    results = compare(functions, repeats=41, warmup=5)
    rows = {name: {'median us': row['median_s'] * 1e6,
                   'records/s': int((1 if name.endswith('decode one') else BATCH) / row['median_s']),
                   'time / baseline': row['ratio']} for name, row in results.items()}
    report(title, rows, json_file)


# ---------------------------------------------------------------- opening
OPEN = '''
import resource, sys, time
import numpy, mmtinyvit.store
def private():
    lines = open('/proc/self/smaps_rollup').read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('Private')) * 1024
before, start = private(), time.perf_counter()
if sys.argv[1] == 'store':
    from mmtinyvit.store import LogitStore
    opened = LogitStore(sys.argv[2]); assert len(opened.views) == 90
else:
    opened = {f'n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG': (0, i) for i in range(1_000_000)}
print(time.perf_counter() - start, private() - before)
'''


def opening(folder: Path, json_file: str | None, num: int = 14_197_122, views: int = 90) -> None:
    """A store of IN-21K for 90 epochs, sparse on disk, in a process of its own; a dict of keys for comparison."""
    request = Manifest(topk=100, num_classes=21841).settle(num, SampleFiles(hashlib.sha256().hexdigest(), '0' * 64, 0))
    write_manifest(folder, request)
    with open(folder / 'samples.txt', 'wb') as text, open(folder / 'samples.idx', 'wb') as index:
        text.truncate(30 * num)
        index.write(index_header(0, num, 30 * num, hashlib.sha256().hexdigest()))
        index.seek(INDEX_HEADER.size + 8 * num)
        index.write((30 * num).to_bytes(8, 'little'))
        index.truncate(INDEX_HEADER.size + 8 * (num + 1) + 12 * num)
    for view in range(views):
        for shard in range(-(-num // request.samples_per_shard)):
            path = folder / request.unit(view, shard).file
            path.parent.mkdir(exist_ok=True)
            path.touch()
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    rows = {}
    for name, what in ((f'store, {num} samples x {views} views', 'store'), ('dict of 1,000,000 keys', 'dict')):
        runs = [[float(x) for x in subprocess.run([sys.executable, '-c', OPEN, what, str(folder)], env=env, check=True,
                                                  capture_output=True, text=True).stdout.split()] for _ in range(5)]
        seconds, private = np.median(runs, axis=0)
        rows[name] = dict(open_s=float(seconds), private_bytes=float(private))
    report('Opening in a fresh process', rows, json_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', choices=['codecs', 'views', 'blocks', 'decoding', 'reading', 'workers', 'relative',
                                           'opening'],
                        help='one table only')
    parser.add_argument('--quick', action='store_true', help='decoding and opening alone')
    parser.add_argument('--json', help='file to add the tables to')
    args = parser.parse_args()
    np.ones(2**24, np.uint8).sum()  # as in any process that has held images, malloc keeps its memory from now on
    with tempfile.TemporaryDirectory() as folder:
        parts = {'codecs': lambda: codecs(args.json), 'views': lambda: views(args.json),
                 'decoding': lambda: decoding(args.json),
                 'reading': lambda: reading(make(folder, 'a'), args.json),
                 'workers': lambda: workers(make(folder, 'd'), args.json),
                 'relative': lambda: reading_relative(make(folder, 'c'), args.json),
                 'opening': lambda: opening(make(folder, 'b'), args.json)}
        if args.only == 'blocks':
            blocks(args.json)
        for name, part in parts.items():
            if name in ('decoding', 'opening') if args.quick else args.only in (None, name):
                part()


def make(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


if __name__ == '__main__':
    main()
