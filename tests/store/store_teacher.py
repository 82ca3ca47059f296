"""A teacher whose word on a sample depends on the view and the position alone, and a job that saves it."""
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmtinyvit.store import LogitStore, LogitWriter, Record, key_hash
from mmtinyvit.store.keys import write_sample_files
from mmtinyvit.store.manifest import read_manifest, write_manifest

# How other processes are started: with the library imported already, and nothing else of this process.
WORKERS = multiprocessing.get_context('forkserver')
WORKERS.set_forkserver_preload(['mmtinyvit.store', 'mmtinyvit.store.codecs.bit_loops', 'store_teacher'])
TOPK, CLASSES, SAMPLES, PER_SHARD = 5, 40, 150, 16
KEYS = [f'n{i % 7:08d}/n{i % 7:08d}_{i}.JPEG' for i in range(SAMPLES)]


def manifest(**changes) -> dict:
    """The request for a small store."""
    return dict(topk=TOPK, num_classes=CLASSES, samples_per_shard=PER_SHARD,
                fingerprints=dict(teacher=dict(name='made up', sha256='ab'))) | changes


def dense(view: int, positions, num_classes: int = CLASSES, scale: float = 3.0) -> np.ndarray:
    """``(n, C)`` float64 log-probabilities."""
    logits = np.stack([np.random.default_rng((view, int(i))).normal(size=num_classes) for i in positions]) * scale
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def sparsify(log_prob: np.ndarray, topk: int) -> Record:
    """The top K and the tail mass, log-probabilities descending."""
    index = np.argsort(-log_prob, axis=1, kind='stable')[:, :topk]
    top = np.take_along_axis(log_prob, index, 1)
    tail = np.clip(1 - np.exp(top).sum(axis=1), 0, 1) * (topk < log_prob.shape[1])
    return Record(index, top.astype(np.float32), tail.astype(np.float32))


def hashes(keys) -> np.ndarray:
    """``(n,)`` uint64: how records name the partners ``keys``."""
    return np.array([key_hash(key) for key in keys], np.uint64)


def save(path: Path, views=(0,), rank: int = 0, world_size: int = 1, pause: float = 0.0, wait: bool = False,
         **changes) -> None:
    """Saves whatever is missing."""
    with LogitWriter(path, manifest(**changes), KEYS) as writer:
        for unit in writer.missing(views, rank, world_size, wait):
            if writer.claim(unit):
                positions = range(unit.first, unit.first + unit.count)
                time.sleep(pause)  # time to be killed in
                writer.write_shard(unit, sparsify(dense(unit.view, positions), TOPK),
                                   canaries={unit.first: bytes(range(16))})


def read_view(store: LogitStore | str, view: int = 2) -> Record:
    """All records of a view, of a store or of the one at a URL; for processes of their own."""
    return (LogitStore(store) if isinstance(store, str) else store).read(view, KEYS)


def make_older(path: Path) -> None:
    """Gives a store the samples files that were written before the index named its text."""
    samples, _ = write_sample_files(path, path / 'samples.txt', tied=False)
    write_manifest(path, replace(read_manifest(path), samples=samples))


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a store but the lock."""
    return {str(file.relative_to(path)): file.read_bytes()
            for file in sorted(path.rglob('*')) if file.is_file() and file.name != '.lock'}
