"""Records read at random by several workers: one by one, in batches, and as the original reads its file."""
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
from harness import compare, report
from teacher_outputs import sparsify, synthetic_outputs

from mmtinyvit.store import LogitStore, LogitWriter

__all__ = ['workers']

TOPK, NUM_CLASSES, VIEWS, BATCH = 10, 1000, 2, 128
READ = 12_800  # records of each worker and turn
_state: dict = {}  # of a worker


def key_of(number: int) -> str:
    return f'n{number // 1300:08d}/n{number // 1300:08d}_{number}.JPEG'


def workers(folder: Path, json_file: str | None, num: int = 1_000_000, count: int = 4) -> None:
    """Microseconds of a worker for a record, checksums verified but for the original's."""
    records = sparsify(synthetic_outputs(NUM_CLASSES, 3, 4096), TOPK)
    for codec in ('compact', 'exact'):
        request = dict(topk=TOPK, num_classes=NUM_CLASSES, samples_per_shard=4096, codec=codec)
        with LogitWriter(folder / codec, request, map(key_of, range(num))) as writer:
            for unit in writer.missing(range(VIEWS)):
                writer.write_shard(unit, records.row(slice(unit.count)))
    record = bytes(4) + records.index[0].astype('<i2').tobytes() + bytes(2 * TOPK)
    (folder / 'values.bin').write_bytes(record * num * VIEWS)
    arms = {'seek, read, frombuffer (the original)': original}
    for codec in ('compact', 'exact'):
        arms[f'{codec}, batches of {BATCH}'] = partial(batches, codec)
        arms[f'{codec}, one by one'] = partial(singles, codec)
    with ProcessPoolExecutor(count, get_context('spawn'), prepare, (folder, num)) as pool:
        def turn(arm) -> float:
            return float(np.mean(list(pool.map(arm, range(count)))))

        results = compare({name: partial(turn, arm) for name, arm in arms.items()}, repeats=9, warmup=2)
    report(f'{num:,} samples x {VIEWS} views, K = {TOPK}, {count} workers', {
        name: {'us per record': 1e6 * row['median_s'], 'time / original': row['ratio']}
        for name, row in results.items()}, json_file)


def prepare(folder: Path, num: int) -> None:
    _state.update(num=num, table={key_of(i): i for i in range(num)}, values=open(folder / 'values.bin', 'rb'),
                  **{codec: LogitStore(folder / codec) for codec in ('compact', 'exact')})


def wanted(seed: int) -> tuple[int, list[str]]:
    _state['turn'] = _state.get('turn', 0) + 1
    dice = np.random.default_rng([seed, _state['turn']])
    return int(dice.integers(VIEWS)), [key_of(i) for i in dice.integers(0, _state['num'], READ)]


def original(seed: int) -> float:
    view, keys = wanted(seed)
    values, table, size = _state['values'], _state['table'], 4 + 4 * TOPK
    start = perf_counter()
    for key in keys:
        values.seek(size * (view * _state['num'] + table[key]))
        data = values.read(size)
        int(np.frombuffer(data[:4], np.int32)[0])
        np.frombuffer(data[4:4 + 2 * TOPK], np.int16).copy()
        np.frombuffer(data[4 + 2 * TOPK:], np.float16).copy()
    return (perf_counter() - start) / READ


def batches(codec: str, seed: int) -> float:
    view, keys = wanted(seed)
    start = perf_counter()
    for first in range(0, READ, BATCH):
        records = _state[codec].read(view, keys[first:first + BATCH])
        for row in range(BATCH):  # each sample gets its own
            records.row(row)
    return (perf_counter() - start) / READ


def singles(codec: str, seed: int) -> float:
    view, keys = wanted(seed)
    start = perf_counter()
    for key in keys:
        _state[codec].read(view, [key]).row(0)
    return (perf_counter() - start) / READ
