"""The original TinyViT's logits (Microsoft Cream, MIT licence) as a store, whose views cannot be made again.

    logits_top100_epoch0/rank0-keys.txt      the keys, one per line
    logits_top100_epoch0/rank0-values.bin    for each key: seed <i4, K classes <i2, K probabilities <f2

One pair of files per process that saved; a sample that padded a sampler is in two of them.
"""
import re
import tempfile
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError
from ..files import list_shards, translated
from ..keys import KeyTable, text_sha256, write_sample_files
from ..reader import LogitStore
from ..record import Record
from ..writer import LogitWriter
from .reshard import Watch
from .summary import NO_REPLAY
from .verify import check_written

__all__ = ['KEY_FORMS', 'Imported', 'import_cream']

_NAMES = {  # what the original named the sample at position i, by its key
    'stem': lambda i, key: key.rsplit('/', 1)[-1].rsplit('.', 1)[0],
    'index': lambda i, key: str(i),
    'path': lambda i, key: key,
}
KEY_FORMS = tuple(_NAMES)

_LEAST = np.float32(2.0**-25)  # what the exact codec reads for a probability that half precision made zero
_EPOCH = re.compile(r'logits_top(\d{1,5})_epoch(\d{1,6})')
_KEYS = re.compile(r'rank(\d{1,6})-keys\.txt')
_CHUNK = 65_536


class Imported(NamedTuple):
    """What was imported.

    Attributes:
        topk: K.
        views: One per epoch, with the epoch's number.
        num_samples: Samples per view.
        written: Shards written in this call; the others were there.
        unknown: Records of samples that the list of keys lacks, left out.
        repeated: Records of samples that another process had saved as well, left out.
    """
    topk: int
    views: list[int]
    num_samples: int
    written: int
    unknown: int
    repeated: int


def import_cream(folder: str | Path, keys: str | Path, out: str | Path, num_classes: int, key_form: str = 'stem',
                 topk: int | None = None, epochs: Sequence[int] | None = None, codec: str = 'exact',
                 teacher: str = 'unknown', watch: Watch = iter) -> Imported:
    """Writes the folders ``logits_top{K}_epoch{E}`` of the original TinyViT as the views E of a store.

    The original augments with a program of its own, so the views cannot be made again here: the store says so in its
    fingerprints (``pipeline.replay`` is ``'none'``), its seeds are not kept, and it has no canaries. What the original
    cut off, the tail mass, is what its probabilities lack to 1. With the codec ``exact``, classes and probabilities
    stay bit for bit, but that the top-1 is made strictly the largest. An interrupted call is simply repeated.

    Args:
        folder: The original's ``DISTILL.TEACHER_LOGITS_PATH``.
        keys: A text file with the sample keys in the dataset's order, one per line.
        out: The store's folder.
        num_classes: The teacher's classes, C.
        key_form: How the original named the sample behind a key: ``'stem'``, the file's name without folders and
            suffix (ImageNet-22k); ``'index'``, its place in the list, from 0 (datasets of folders, such as
            ImageNet-1k); ``'path'``, as the key.
        topk: K, if the folder has several.
        epochs: The epochs to take; all by default.
        codec: The record codec.
        teacher: Name of the teacher.
        watch: Wraps the units of work, for a progress bar.

    Raises:
        StoreError: A file is missing, cut off, or holds what no softmax gives; a sample has no record; or ``out`` is
            another store.
    """
    if key_form not in KEY_FORMS:
        raise StoreError(f'The original names samples by {", ".join(KEY_FORMS)}, not by {key_form!r}.')
    keys = Path(keys)
    topk, folders = _find_epochs(Path(folder), topk)
    views = sorted(folders) if epochs is None else list(epochs)
    absent = sorted(set(views) - set(folders))
    if absent:
        raise StoreError(f'{folder} has no logits of epoch {absent[0]}: it has the epochs {sorted(folders)}.')
    order, num_samples = text_sha256(keys)
    manifest = dict(topk=topk, num_classes=num_classes, codec=codec, fingerprints=dict(
        dataset=dict(num_samples=num_samples, order_hash=order, num_classes=None, classes_hash=None),
        pipeline=dict(replay=NO_REPLAY, reason='imported from the original TinyViT, which augmented the views with a '
                                               'program of its own'),
        teacher=dict(name=teacher), versions={}))
    unknown = repeated = 0
    with tempfile.TemporaryDirectory() as temporary, LogitWriter(out, manifest, keys, exclusive=True) as writer:
        with open(keys, encoding='utf-8', newline='\n') as file:
            samples, _ = write_sample_files(Path(temporary), (_NAMES[key_form](i, line.removesuffix('\n'))
                                                              for i, line in enumerate(file)))
        table = KeyTable(Path(temporary), num_samples, samples)
        missing, epoch = list(writer.missing(views)), None
        if not missing:
            _refuse_other(writer, views[0], _Epoch(folders[views[0]], topk, table, key_form))
        for unit in watch(missing):
            if epoch is None or epoch.path != folders[unit.view]:
                epoch = _Epoch(folders[unit.view], topk, table, key_form)
                _refuse_other(writer, unit.view, epoch)
                unknown, repeated = unknown + epoch.unknown, repeated + epoch.repeated
            writer.write_shard(unit, epoch.read(np.arange(unit.first, unit.first + unit.count), num_classes))
        check_written(writer.root)
    return Imported(topk, views, num_samples, len(missing), unknown, repeated)


def _refuse_other(writer: LogitWriter, view: int, epoch: '_Epoch') -> None:
    """Going on with a store that was imported from other files."""
    present, store = list_shards(writer.root, view), LogitStore(writer.root)
    if present:
        first = np.array([min(present) * store.manifest.samples_per_shard])
        codec, stored = store.manifest.record_codec, store.read_positions(view, first)
        expected = codec.decode(codec.encode(epoch.read(first, store.num_classes)))
        if not all(np.array_equal(a, b) for a, b in zip(expected, stored, strict=True)):
            raise StoreError(f'The store {writer.root} has view {view} from other files than {epoch.path}: import into '
                             'a new folder.')


# ---------------------------------------------------------------- the files
def _find_epochs(folder: Path, topk: int | None) -> tuple[int, dict[int, Path]]:
    """K, and the folder of each epoch, in order."""
    found: dict[int, dict[int, Path]] = {}
    with translated(folder):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = _EPOCH.fullmatch(path.name)
            if match and path.is_dir():
                found.setdefault(int(match[1]), {})[int(match[2])] = path
    if topk is None and len(found) > 1:
        raise StoreError(f'{folder} has logits of top {" and ".join(map(str, sorted(found)))}: say which with --topk.')
    if not found or topk not in (None, *found):
        raise StoreError(f'{folder} has no folders named logits_top{topk or "K"}_epochE, which the original TinyViT '
                         'saves: give the folder that was its DISTILL.TEACHER_LOGITS_PATH.')
    topk = next(iter(found)) if topk is None else topk
    return topk, dict(sorted(found[topk].items()))


class _Epoch:
    """The logits of one epoch, by position; of a sample that several processes saved, those of the lowest rank.

    ``table`` has the original's names in the wanted order; ``unknown`` and ``repeated`` are those of :class:`Imported`.
    """

    def __init__(self, path: Path, topk: int, table: KeyTable, key_form: str) -> None:
        self.path = path
        self._values: list[np.ndarray] = []
        record, found = np.dtype([('seed', '<i4'), ('index', '<u2', (topk,)), ('prob', '<f2', (topk,))]), []
        with translated(path):
            ranks = sorted(int(match[1]) for file in path.iterdir() if (match := _KEYS.fullmatch(file.name)))
            for rank in ranks:
                found.append(_positions(path / f'rank{rank}-keys.txt', table))
                values, count = path / f'rank{rank}-values.bin', len(found[-1])
                size = values.stat().st_size if values.exists() else 0
                if size != count * record.itemsize:
                    raise StoreError(f'{values} has {size} bytes, but {count} keys with the top {topk} need '
                                     f'{count * record.itemsize}: it was cut off, or K is another one; copy it again.')
                self._values.append(np.memmap(values, record, 'r') if count else np.empty(0, record))
        if not ranks:
            raise StoreError(f'{path} has no rank0-keys.txt and rank0-values.bin: its saving did not finish; copy it '
                             'again.')
        self._starts = np.cumsum([0, *map(len, found)])  # of each file's rows among all
        positions = np.concatenate(found)
        known, rows = np.unique(positions, return_index=True)  # the first row of each sample
        self._rows = rows[known >= 0]  # by position, since no sample is missing
        missing = np.setdiff1d(np.arange(len(table)), known)
        if len(missing):
            raise StoreError(f'{path} has no record of {len(missing)} of the {len(table)} samples, first of '
                             f'{table.key(int(missing[0]))!r}: it was not completely saved, or the original named '
                             f'samples otherwise than by {key_form} (see --key-form).')
        self.unknown = int((positions < 0).sum())
        self.repeated = len(positions) - self.unknown - len(table)

    def read(self, positions: np.ndarray, num_classes: int) -> Record:
        """What the original says, for the writer to check; classes are in the original's order."""
        rows = self._rows[positions]
        files = np.searchsorted(self._starts, rows, side='right') - 1
        records = np.empty(len(rows), self._values[0].dtype)
        for number in np.unique(files).tolist():
            here = files == number
            records[here] = self._values[number][rows[here] - self._starts[number]]
        prob = records['prob'].astype(np.float32)
        tail = np.clip(1 - prob.sum(axis=1, dtype=np.float64), 0, 1).astype(np.float32)
        log_prob = np.full_like(prob, np.nan)
        np.log(np.maximum(prob, _LEAST), out=log_prob, where=prob >= 0)  # what is negative or NaN is for the writer
        return Record(records['index'], log_prob, tail if prob.shape[1] < num_classes else np.zeros_like(tail))


def _positions(path: Path, table: KeyTable) -> np.ndarray:
    """``(n,)`` int64: where the samples stand whose keys a file lists, -1 for those that ``table`` lacks."""
    with open(path, encoding='utf-8', errors='surrogateescape', newline='\n') as file:  # a key of a store is UTF-8
        chunks = iter(lambda: [line.strip() for line in islice(file, _CHUNK)], [])
        return np.fromiter(chain.from_iterable(map(table.find, chunks)), np.int64)
