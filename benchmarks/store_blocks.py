"""The codec smallest against records that need no other view: zstd over blocks of records; a part of store.py.

All store the same classes, levels and tails, rounded by the same ``RootLevels``; only the packing differs. A block is a
list of columns: gaps between classes, levels, steps, tails.

- zstd: 32 records of one view in a block.
- zstd, dictionaries: the same, with classes renumbered by how frequent they are in the shard, and 16 KiB of zstd's own
  dictionary, trained on other records of the shard. The bytes of the dictionaries are not counted.
- zstd, whole images: all views of an image in a block, with a list of the image's classes. A store cannot be written
  so, since its views are saved one after another; this says what that costs.
"""
import numpy as np
from harness import report
from store_bytes import weigh
from teacher_outputs import correlated_views, real_views, sparsify, synthetic_views

from mmtinyvit.errors import UserError
from mmtinyvit.store import Record
from mmtinyvit.store.codecs.base import encode_tail
from mmtinyvit.store.codecs.root_levels import TAIL_BITS, RootLevels

__all__ = ['blocks']

PER_BLOCK, DICTIONARY_BYTES, VIEWS = 32, 2**14, 90
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # classes and levels (n, K); steps and tails (n,)


def blocks(json_file: str | None) -> None:
    """Bytes per view, without checksums; of the codec smallest, the mean over 90 views."""
    pairs = {f'21841 classes, deviation {scale}, K = 100': (100, synthetic_views(21841, scale, 100, 0.6, 320))
             for scale in (1, 2, 4, 8)}
    for teacher in ('MobileNetV2', 'EfficientNet-Lite2'):
        pair = real_views(0.35, 320, 'imagenette96/val', teacher)
        if pair is not None:
            pairs |= {f'{teacher}, photos of Imagenette by class, K = {topk}': (topk, pair) for topk in (100, 10)}
    rows = {}
    for name, (topk, pair) in pairs.items():
        first, second = (sparsify(log_prob, topk) for log_prob in pair)
        columns = quantise(second)
        rows[name] = smallest_bytes(pair[0].shape[1], first, second) | {
            'zstd': zstd_bytes(columns), 'zstd, dictionaries': zstd_bytes(by_frequency(columns), trained=True)}
    report('Bytes per view: the codec smallest, and records that need no other view', rows, json_file)
    rows = {}
    for scale in (1, 8):
        views = [sparsify(log_prob, 100) for log_prob in correlated_views(21841, scale, 100, 0.6, VIEWS, 6)]
        rows[f'21841 classes, deviation {scale}, K = 100'] = smallest_bytes(21841, *views[:2]) | {
            f'whole images of {num} views': image_bytes([quantise(view) for view in views[:num]])
            for num in (10, VIEWS)}
    report('Bytes per view if all views of an image were saved together', rows, json_file)


def smallest_bytes(num_classes: int, first: Record, second: Record) -> dict[str, float]:
    alone, relative = (weigh('smallest', num_classes, second, reference)['bytes'] for reference in (None, first))
    return {'smallest, 90 views': (alone + (VIEWS - 1) * relative) / VIEWS, 'smallest, reference view': alone}


def quantise(record: Record) -> Columns:
    """What the codec smallest stores of records, before it packs them; classes ascending."""
    order = record.index.argsort(axis=1)
    index, log_prob = (np.take_along_axis(array, order, 1) for array in record[:2])
    prob, tail = np.exp(log_prob.astype(np.float64)), record.tail_mass.astype(np.float64)
    total = prob.sum(axis=1) + tail
    roots = RootLevels(record.index.shape[1])
    step, levels = roots.choose(prob / total[:, None], np.ones_like(prob, bool), log_prob.argmax(axis=1), tail / total)
    return index, levels.clip(0, 255), step, encode_tail(tail / total, TAIL_BITS)


def by_frequency(columns: Columns) -> Columns:
    """Classes become their ranks by frequency, ascending again."""
    frequency = np.bincount(columns[0].ravel())
    ranks = np.empty_like(frequency)
    ranks[np.argsort(-frequency, kind='stable')] = np.arange(len(frequency))
    index = ranks[columns[0]]
    order = index.argsort(axis=1)
    return np.take_along_axis(index, order, 1), np.take_along_axis(columns[1], order, 1), *columns[2:]


def as_bytes(columns: Columns) -> bytes:
    """A block, before it is compressed; a gap takes one byte, or three from 255 on."""
    index, levels, step, tail = columns
    gaps = (np.diff(index, axis=1, prepend=-1) - 1).ravel().tolist()
    packed = b''.join(bytes([gap]) if gap < 255 else b'\xff' + gap.to_bytes(2, 'little') for gap in gaps)
    return packed + levels.astype('u1').tobytes() + step.astype('u1').tobytes() + tail.astype('<u2').tobytes()


def zstd_bytes(columns: Columns, trained: bool = False) -> float:
    """Bytes per record; if ``trained``, of every fourth block, with a dictionary trained on the others."""
    rows = np.arange(len(columns[0]))
    measured = (rows // PER_BLOCK % 4 == 3) if trained else rows >= 0
    used = [column[measured] for column in columns]
    data = [as_bytes([column[start:start + PER_BLOCK] for column in used])
            for start in range(0, len(used[0]), PER_BLOCK)]
    others = [as_bytes([column[row:row + 8] for column in columns]) for row in rows[~measured][::8]]
    return sum(map(len, compress(data, others))) / len(used[0])


def image_bytes(views: list[Columns]) -> float:
    """Bytes per record; a block: the classes of an image, frequent ones first, which view has which, levels, tails."""
    data = []
    for image in range(len(views[0][0])):
        index, levels, step, tail = (np.stack([view[part][image] for view in views]) for part in range(4))
        classes, count = np.unique(index, return_counts=True)
        has = (index[:, :, None] == classes).any(axis=1)
        order = np.argsort(-count, kind='stable')
        data.append(classes[order].astype('<u2').tobytes() + np.packbits(has[:, order].T, axis=1).tobytes()
                    + levels.astype('u1').tobytes() + step.astype('u1').tobytes() + tail.astype('<u2').tobytes())
    return sum(map(len, compress(data, []))) / len(data) / len(views)


def compress(data: list[bytes], others: list[bytes]) -> list[bytes]:
    """Each block by zstd at level 19, without its magic number, size and checksum."""
    try:
        import zstandard
    except ImportError:
        raise UserError('This table needs zstandard: pip install zstandard.') from None
    dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, others) if others else None
    compressor = zstandard.ZstdCompressor(level=19, dict_data=dictionary, write_content_size=False,
                                          write_dict_id=False)
    return [compressor.compress(block)[4:] for block in data]
