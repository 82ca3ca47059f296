"""Records moved as they are, from one store to another, without decoding them."""
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from .errors import StoreError
from .files import make_folder, translated, write_atomically
from .keys import text_sha256
from .layout import TEXT_NAME, Unit, shard_path, view_path
from .reader import LogitStore
from .remote_folder import is_url, refuse_url
from .shard import block_records
from .verify import verify_store
from .writer import LogitWriter

__all__ = ['check_written', 'open_sources', 'read_canaries', 'read_records', 'write_bytes', 'write_records']

def open_sources(sources: Sequence[str | Path], out: str | Path) -> list[LogitStore]:
    """Opens the stores that are to be read, whose keys are checked, and which ``out`` must not be part of.

    Raises:
        StoreError: One cannot be opened, its keys are damaged, or ``out`` is or lies in one of them.
    """
    refuse_url(out)
    place = Path(out).resolve()
    stores = []
    for source in sources:
        if is_url(source):
            raise StoreError(f'The store {source} is not on this machine: copy it here first, with "python '
                             f'tools/logit_store.py copy {source} FOLDER".')
        if Path(source).resolve() in (place, *place.parents):
            raise StoreError(f'The result {out} would lie in {source}, which is read: choose a new folder.')
        store = LogitStore(source)
        if text_sha256(store.root / TEXT_NAME)[0] != store.manifest.samples.text_sha256:
            raise StoreError(f'{store.root / TEXT_NAME} is damaged: its SHA-256 is not the one in the manifest; copy '
                             'it again.')
        stores.append(store)
    return stores


def read_records(store: LogitStore, view: int, positions: np.ndarray) -> np.ndarray:
    """``(n, record_bytes)`` uint8: the records of ``positions``, an ``(n,)`` int64, as they lie in the shards.

    Raises:
        StoreError: A shard is missing, or a block's checksum is wrong.
    """
    rows = np.empty((len(positions), store.record_bytes), np.uint8)
    shards, local = np.divmod(positions, store.manifest.samples_per_shard)
    blocks, slots = np.divmod(local, block_records(store._codec.variable))
    changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(blocks) != 0)) + 1
    for start, end in pairwise([0, *changes.tolist(), len(positions)]):
        shard = store._shard(view, int(shards[start]), int(positions[start]))
        rows[start:end] = shard.rows(int(blocks[start]))[slots[start:end]]
    return rows


def read_canaries(store: LogitStore, view: int, positions: np.ndarray) -> dict[int, bytes]:
    """The canaries of those of ``positions`` that have one."""
    wanted = set(positions.tolist())
    return {position: digest for shard in np.unique(positions // store.manifest.samples_per_shard).tolist()
            for position, digest in store.canaries(view, shard).items() if position in wanted}


def write_records(writer: LogitWriter, unit: Unit, records: np.ndarray, canaries: Mapping[int, bytes]) -> None:
    """Writes one shard of ready records ``(count, record_bytes)``, whole or not at all."""
    if writer.claim(unit):
        chunks = writer.pack(unit, records, canaries)
        write_bytes(writer, unit, chunks, sum(map(len, chunks)))


def write_bytes(writer: LogitWriter, unit: Unit, chunks: Iterable[bytes], size: int) -> None:
    """Writes one shard file of ``size`` bytes, whole or not at all; nothing if another process has the unit."""
    if not writer.claim(unit):
        return
    try:
        with translated(writer.root, size):
            make_folder(view_path(writer.root, unit.view))
            write_atomically(shard_path(writer.root, unit.view, unit.shard), chunks)
    finally:
        writer.release(unit)


def check_written(out: Path) -> None:
    """Reads everything back.

    Raises:
        StoreError: A checksum is wrong.
    """
    for finding in verify_store(out):
        if finding.problem:
            raise StoreError(f'The new store did not survive its writing, so the disk or memory may be failing: '
                             f'{finding.problem}')
