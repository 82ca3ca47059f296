"""Writing an image index: every folder and archive of a data set is listed once, in parallel.

What was listed, and which images were decoded, is kept beside the index until it is written, so that a scan that was
interrupted goes on where it stopped.
"""
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, other_spelling
from ...store.folders import is_url
from .check import decoder_name
from .data_root import DataRoot
from .decoding import block_stamps, decode_block
from .index import IndexBlock, write_index
from .journal import ScanJournal
from .labels import LabelRule, label_rule, number_classes
from .layouts import Source, find_sources, list_source, refuse_compressed, sample_keys
from .listing import IMAGE_SUFFIXES, Listing, without_sidecars

__all__ = ['MISSING_CLASSES', 'ScanSummary', 'index_images', 'rejected_file', 'split_archive']

MISSING_CLASSES = ('refuse', 'keep', 'drop')

_IN_FLIGHT = 256  # bounds the memory of a scan
_DECODED_AT_ONCE = 256  # and recorded in the journal


class ScanSummary(NamedTuple):
    """What an index holds.

    Attributes:
        layout: See :mod:`.layouts`.
        labels: Where the labels are from, in words.
        num_classes: Number of classes.
        num_images: Number of images.
        empty_classes: The classes without any image.
        left_out: Images whose class was not listed, or that the label list does not name.
        rejected: Images that do not decode; see :func:`rejected_file` for key and reason of each.
        others: How many other files there are, by the ends of their names.
    """
    layout: str
    labels: str
    num_classes: int
    num_images: int
    empty_classes: tuple[str, ...]
    left_out: int
    rejected: int
    others: dict[str, int]


def index_images(data_root: str | os.PathLike,
                 out: str | os.PathLike,
                 classes: Sequence[str] | None = None,
                 layout: str | None = None,
                 labels: str | None = None,
                 match: str | None = None,
                 missing_classes: str = 'refuse',
                 check: str | None = None,
                 workers: int = 8,
                 on_progress: Callable[[str, int, int, int], None] = lambda *_: None) -> ScanSummary:
    """List all images of a data set and write the index ``out``.

    The order is fixed by the names alone: classes in label order, and the images of a class sorted by key; shards in
    the order of their names, and their images as they lie in them. Folders, zip files and tar files of the same classes
    get the same keys in the same order.

    Args:
        data_root: Folder or URL that holds the images, in folders or archives; or one archive.
        out: The index file, written in one piece at the end.
        classes: Class names in label order; all that are found, sorted, by default. Images of others are left out.
        layout: One of :data:`.layouts.LAYOUTS`; None finds out.
        labels: See :func:`.labels.label_rule`; None finds out.
        match: Shell pattern for the archives, at any depth; by default those in ``data_root`` itself.
        missing_classes: What becomes of listed classes that are not there: ``'refuse'``, ``'keep'`` their numbers, or
            ``'drop'`` them, so that the others move up.
        check: A decoder, ``'cv2'`` or ``'pillow'``, with which every image is decoded once; those that fail are left
            out and stand in the file :func:`rejected_file` beside the index, which is there only if any fail.
        workers: Threads that list and decode; more than the cores pays on network file systems.
        on_progress: Called with what is being done, how much of it is done, of how much, and the number of images.

    Raises:
        UserError: A class is missing or listed twice, an archive is unreadable, there is no image at all, or ``out`` is
            not writable.
    """
    folder, archive = split_archive(os.fspath(data_root))
    root, out = DataRoot(folder), Path(out)
    _require_place(out)
    layout, sources = find_sources(root, layout, match, archive)
    rule = label_rule(labels, root, layout, sources)
    if rule.kind == 'class' and sources[0].name == '':
        raise UserError(f'{root} holds images beside its class folders: move them, or choose --labels none.')
    if classes is not None and (twice := [name for name, count in Counter(classes).items() if count > 1]):
        raise UserError(f'The class list names {twice[0]} twice: keep one of them.')
    if classes is not None and rule.kind == 'class' and layout in ('folders', 'class-archives'):
        wanted, stems = set(classes), {source.stem for source in sources}
        _refuse_alike(wanted - stems, stems, root)
        sources = [source for source in sources if source.stem in wanted]
    scan = _Scan(root, layout, rule, sources, ScanJournal(out, f'{root} {layout} {rule.member}'))
    names = scan.number(classes, missing_classes) if scan.by_class else None  # refuses before anything is read
    with _pool(workers) as pool:
        total = scan.list_all(pool, on_progress)
        names = scan.number(classes, missing_classes) if names is None else names
        if not total:
            raise UserError(f'No image lies under {data_root}: put files ending in {", ".join(IMAGE_SUFFIXES)} there.')
        if check:
            scan.decode_all(pool, check, total, on_progress)
    archives = list(dict.fromkeys((source.name, source.size) for source in scan.sources if source.kind != 'folder'))
    counts = np.zeros(len(names), np.int64)
    num_images = 0

    def blocks() -> Iterator[IndexBlock]:
        nonlocal num_images
        for block in scan.blocks([name for name, _ in archives]):
            num_images += len(block.keys)
            np.add.at(counts, block.labels[block.labels >= 0], 1)
            yield block

    write_index(out, blocks(), layout, names, archives, check and decoder_name(check))
    try:
        rejected_file(out).unlink(missing_ok=True)  # of another index
        if scan.rejected:
            rejected_file(out).write_text(''.join(f'{key}\t{reason}\n' for key, reason in scan.rejected))
    except OSError as error:
        raise UserError(f'The index is written, but {rejected_file(out)} cannot be ({error.strerror}): remove what is '
                        'there, and run the same command again.') from error
    scan.journal.close()
    empty = tuple(name for name, count in zip(names, counts, strict=True) if not count)
    return ScanSummary(layout, str(rule), len(names), num_images, empty, scan.left_out, len(scan.rejected),
                       dict(scan.others.most_common()))


def rejected_file(out: Path) -> Path:
    """What lists the images that do not decode: ``rejected.txt`` beside ``images.index``, else named as the index."""
    return out.with_name('rejected.txt' if out.name == 'images.index' else f'{out.stem}.rejected.txt')


def split_archive(data_root: str) -> tuple[str, str | None]:
    """The data root, and the archive in it if one was named in its place."""
    refuse_compressed(data_root)
    if data_root.lower().endswith(('.zip', '.tar')) and (is_url(data_root) or os.path.isfile(data_root)):
        folder, _, name = data_root.rpartition('/')
        return folder or ('/' if data_root.startswith('/') else '.'), name
    return data_root, None


def _require_place(out: Path) -> None:
    """Raises :class:`UserError` if ``out`` is something else than an image index."""
    try:
        with open(out, 'rb') as file:
            known = file.read(7) in (b'MMTVIDX', b'')
    except FileNotFoundError:
        return
    except OSError:
        known = False
    if not known:
        raise UserError(f'{out} is there already and no image index: name another place with --out.')


class _Scan:
    """The state of :func:`index_images`.

    Attributes:
        sources: Folders and archives, in sample order once the classes have numbers.
        by_class: Whether each of them is a class.
        left_out: Images that get no place in the index for want of a label.
        others: Files that are no images, by the ends of their names.
        rejected: Key and reason of images that do not decode.
    """

    def __init__(self, root: DataRoot, layout: str, rule: LabelRule, sources: list[Source],
                 journal: ScanJournal) -> None:
        self.root, self.layout, self.rule, self.sources, self.journal = root, layout, rule, sources, journal
        self.left_out = 0
        self.others: Counter[str] = Counter()
        self.rejected: list[tuple[str, str]] = []
        self.by_class = rule.kind == 'class' and layout in ('folders', 'class-archives')
        self._numbers: dict[str, int] = {}
        self._faults: dict[Source, dict[int, str]] = {}

    def list_all(self, pool: ThreadPoolExecutor, on_progress: Callable[[str, int, int, int], None]) -> int:
        """Lists every source; returns the number of images."""
        total = 0
        for done, listing in enumerate(_in_order(pool, self._listing, ((source, ) for source in self.sources)), 1):
            total += len(listing.names)
            self.others.update(listing.others)
            on_progress('Listing', done, len(self.sources), total)
        return total

    def number(self, classes: Sequence[str] | None, missing_classes: str) -> list[str]:
        """Gives the classes their numbers, and the sources their order; returns the classes' names."""
        if self.rule.kind == 'none':
            return []
        found = {source.stem for source in self.sources} if self.by_class else set()
        labelled = 0
        for source in () if self.by_class else self.sources:
            texts = [text for text in self._labels(source, self._listing(source))[1] if text is not None]
            found.update(texts)
            labelled += len(texts)
        self._require_listed(labelled)
        names, self._numbers = number_classes(found, classes, self.rule)
        by_name = classes is not None and all(names[number] == label for label, number in self._numbers.items())
        if missing := [name for name in names if name not in found] if by_name else []:
            _refuse_alike(missing, found, self.root)
            if missing_classes == 'refuse':
                raise UserError(
                    f'{len(missing)} of the {len(names)} listed classes are not in {self.root}, {missing[0]} among '
                    'them: complete the data, or choose --missing-classes keep (their numbers stay, without images) '
                    'or drop (the others move up).')
            if missing_classes == 'drop':
                names = [name for name in names if name in found]
                self._numbers = {name: number for number, name in enumerate(names)}
        if self.by_class:
            self.sources.sort(key=lambda source: self._numbers[source.stem])
        return names

    def _require_listed(self, labelled: int) -> None:
        listed = self.rule.listed or {}
        if labelled == len(listed) or self.rule.kind != 'list':
            return
        gone = set(listed)
        for source in self.sources:
            gone.difference_update(self._labels(source, self._listing(source))[0])
        spelt = other_spelling(min(gone), lambda other: any(
            other in self._labels(source, self._listing(source))[0] for source in self.sources))
        raise UserError(f'{len(gone)} of the {len(listed)} images that {self.rule} names are not there, {min(gone)} '
                        f'among them{spelt}: name images by their keys (see docs/en/data.md), or correct the list.')

    def decode_all(self, pool: ThreadPoolExecutor, backend: str, total: int,
                   on_progress: Callable[[str, int, int, int], None]) -> None:
        """Decodes every image."""
        def tasks() -> Iterator[tuple[Source, Listing, int]]:
            for source in self.sources:
                listing = self._listing(source)
                for first in range(0, len(listing.names), _DECODED_AT_ONCE):
                    yield source, listing, first

        def run(source: Source, listing: Listing, first: int) -> tuple[Source, int, dict[int, str]]:
            rows = range(first, min(first + _DECODED_AT_ONCE, len(listing.names)))
            block = f'{decoder_name(backend)} {first} {block_stamps(self.root, source, listing, rows)}'
            return source, len(rows), self.journal.rejected(
                source, block, lambda: decode_block(self.root, source, listing, rows, backend))

        done = 0
        for source, count, faults in _in_order(pool, run, tasks()):
            self._faults.setdefault(source, {}).update(faults)
            done += count
            on_progress('Decoding', done, total, total)

    def blocks(self, archives: Sequence[str]) -> Iterator[IndexBlock]:
        """All images, in sample order."""
        numbers = {name: number for number, name in enumerate(archives)}
        for source in self.sources:
            listing = self._listing(source)
            keys, texts = self._labels(source, listing)
            if self.rule.kind == 'none':
                labels = np.full(len(keys), -1, '<i4')
                kept = np.ones(len(keys), bool)
            else:
                labels = np.array([self._numbers.get(text, -1) for text in texts], '<i4')
                kept = labels >= 0
            faults = self._faults.get(source, {})
            self.left_out += int((~kept).sum())
            self.rejected += [(keys[row], reason) for row, reason in sorted(faults.items()) if kept[row]]
            kept[list(faults)] = False
            rows = np.flatnonzero(kept)
            if self.layout != 'shards':
                by_class = self.rule.kind == 'class'
                rows = np.array(sorted(rows.tolist(), key=lambda row: (
                    labels[row] if by_class else 0, keys[row].partition('/')[0], keys[row])), np.int64)
            columns = {name: values[rows] for name, values in listing.columns.items()}
            if source.kind != 'folder':
                columns['archive'] = np.full(len(rows), numbers[source.name], '<u4')
            paths = [listing.names[row] for row in rows] if source.kind == 'folder' else ()
            yield IndexBlock([keys[row] for row in rows], labels[rows], columns, paths)

    def _listing(self, source: Source) -> Listing:
        listing = self.journal.listing(source, lambda: list_source(self.root, source, self.rule.member))
        return without_sidecars(listing) if self.layout == 'shards' else listing

    def _labels(self, source: Source, listing: Listing) -> tuple[list[str], list[str | None]]:
        keys = sample_keys(self.layout, source, listing.names)
        return keys, self.rule.labels(self.layout, source, keys, listing)


def _refuse_alike(missing: Iterable[str], found: Collection[str], root: DataRoot) -> None:
    """Raises :class:`UserError` if a missing class is there under a name that only looks the same."""
    for name in sorted(missing):
        if spelt := other_spelling(name, found.__contains__):
            raise UserError(f'The class list names {name}, which {root} does not have{spelt}.')


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with what they do, without beginning what waits, if the block is left by an error.

    Ctrl-C does not wait for them: one may be in the midst of a large archive.
    """
    pool, wait = ThreadPoolExecutor(workers), True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, function: Callable, tasks: Iterable[tuple]) -> Iterator[Any]:
    """Results of ``function(*task)`` in the order of the tasks, of which only some are under way."""
    waiting: deque = deque()
    for task in tasks:
        waiting.append(pool.submit(function, *task))
        if len(waiting) >= _IN_FLIGHT:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
