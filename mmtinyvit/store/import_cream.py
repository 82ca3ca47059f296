"""The original TinyViT's logits as a store, without a promise that its views can be made again."""
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .codecs import make_codec
from .cream_layout import CreamEpoch, find_epochs
from .errors import StoreError
from .key_table import KeyTable
from .keys import text_sha256, write_sample_files
from .layout import Unit, list_shards
from .reader import LogitStore
from .record import Record
from .records import check_written
from .summary import NO_REPLAY
from .writer import LogitWriter

__all__ = ['KEY_FORMS', 'Imported', 'import_cream']

KEY_FORMS = ('stem', 'index', 'path')
Watch = Callable[[Sequence[Unit]], Iterable[Unit]]

_LEAST = np.float32(2.0**-25)  # what the exact codec reads for a probability that half precision made zero


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
    topk, folders = find_epochs(Path(folder), topk)
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
        samples, _ = write_sample_files(Path(temporary), _names(keys, key_form))
        table = KeyTable(Path(temporary), num_samples, samples.key_salt)
        missing, epoch = list(writer.missing(views)), None
        if not missing:
            _refuse_other(writer, views[0], _open_epoch(folders[views[0]], topk, table, key_form))
        for unit in watch(missing):
            if epoch is None or epoch.path != folders[unit.view]:
                epoch = _open_epoch(folders[unit.view], topk, table, key_form)
                _refuse_other(writer, unit.view, epoch)
                unknown, repeated = unknown + epoch.unknown, repeated + epoch.repeated
            writer.write_shard(unit, _record(epoch, np.arange(unit.first, unit.first + unit.count), num_classes))
        check_written(writer.root)
    return Imported(topk, views, num_samples, len(missing), unknown, repeated)


def _names(keys: Path, form: str) -> Iterator[str]:
    """The original's names of the samples in a list of keys."""
    with open(keys, encoding='utf-8', newline='\n') as file:
        for position, line in enumerate(file):
            key = line.removesuffix('\n')
            if form == 'index':
                key = str(position)
            elif form == 'stem':
                key = key.rsplit('/', 1)[-1].rsplit('.', 1)[0]
            yield key


def _open_epoch(path: Path, topk: int, table: KeyTable, key_form: str) -> CreamEpoch:
    epoch = CreamEpoch(path, topk, table)
    missing = epoch.missing()
    if len(missing):
        raise StoreError(f'{path} has no record of {len(missing)} of the {len(table)} samples, first of '
                         f'{table.key(int(missing[0]))!r}: it was not completely saved, or the original named samples '
                         f'otherwise than by {key_form} (see --key-form).')
    return epoch


def _record(epoch: CreamEpoch, positions: np.ndarray, num_classes: int) -> Record:
    """What the original says, for the writer to check."""
    index, half = epoch.read(positions)
    prob = half.astype(np.float32)
    tail = np.clip(1 - prob.sum(axis=1, dtype=np.float64), 0, 1).astype(np.float32)
    log_prob = np.full_like(prob, np.nan)
    np.log(np.maximum(prob, _LEAST), out=log_prob, where=prob >= 0)  # what is negative or NaN is refused by the writer
    return Record(index, log_prob, tail if prob.shape[1] < num_classes else np.zeros_like(tail))


def _refuse_other(writer: LogitWriter, view: int, epoch: CreamEpoch) -> None:
    """Going on with a store that was imported from other files."""
    there, store = list_shards(writer.root, view), LogitStore(writer.root)
    if there:
        first = np.array([min(there) * store.manifest.samples_per_shard])
        codec = make_codec(store.codec, store.topk, store.num_classes)
        ours = codec.decode(codec.encode(*_record(epoch, first, store.num_classes)[:3]))
        theirs = store.read_positions(view, first)
        if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=False)):
            raise StoreError(f'The store {writer.root} has view {view} from other files than {epoch.path}: import into '
                             'a new folder.')
