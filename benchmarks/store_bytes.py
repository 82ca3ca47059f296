"""The bytes that each codec takes, and its error, on made-up and real outputs; a part of store.py."""
import numpy as np
from harness import report
from teacher_outputs import real_outputs, real_views, shared_classes, sparsify, synthetic_outputs, synthetic_views

from mmtinyvit.store import Record, codec_names, make_codec
from mmtinyvit.store.codecs import cut_lengths
from mmtinyvit.store.shard import shard_bytes

__all__ = ['SIZES', 'codecs', 'views']

SIZES = ((100, 21841), (10, 1000))


def codecs(json_file: str | None) -> None:
    """Bytes per view and the divergence of what is read from what was written."""
    sources = {f'synthetic, {num_classes} classes, deviation {scale}': (topk, synthetic_outputs(num_classes, scale))
               for topk, num_classes in SIZES for scale in (1, 2, 4, 8)}
    real = real_outputs()
    if real is not None:
        sources['MobileNetV2 on 1000 photos'] = (10, real)
        sources['MobileNetV2 on 1000 photos, K = 100'] = (100, real)
    rows = {}
    for source, (topk, log_prob) in sources.items():
        record = sparsify(log_prob, topk)
        rows[f'{source}: original'] = dict(bytes=float(4 + 4 * topk))
        for name in codec_names():
            rows[f'{source}: {name}'] = weigh(name, log_prob.shape[1], record)
    report('Bytes per view, and KL of the decoded top K and tail against the exact ones', rows, json_file)


def weigh(name: str, num_classes: int, record: Record, reference: Record | None = None) -> dict:
    """Bytes and error of records, coded relative to others if these are given."""
    codec = make_codec(name, record.index.shape[1], num_classes)
    known = None if reference is None else codec.encode(reference)
    packed = codec.encode(record, known)
    decoded = codec.decode(packed, known)
    size = float(cut_lengths(packed).mean()) if codec.variable else float(codec.record_bytes)
    shard = shard_bytes(65536, codec.record_bytes, 16, size if codec.variable else None)
    top = np.take_along_axis(decoded.index, decoded.log_prob.argmax(axis=1)[:, None], 1)[:, 0]
    kl = divergence(record, decoded)
    return {'bytes': size, 'with checksums': (shard - 64) / 65536, 'tail mass': float(record.tail_mass.mean()),
            'mean KL, 1e-6 nat': float(kl.mean() * 1e6), 'largest KL, 1e-6 nat': float(kl.max() * 1e6),
            'top-1 changed': int((top != record.index[:, 0]).sum())}


def views(json_file: str | None) -> None:
    """The codec smallest on a view that is coded relative to another of the same images.

    How many classes two views share is measured on MobileNetV2, whose views of real photos are also weighed as they
    are. The made-up views have correlated normal logits, and share as many or, in the worst case, none but by chance.
    """
    sources, shared = {}, {'as crops of 0.35 to 1': 0.6, 'as crops of 0.08 to 1': 0.49, 'by chance': 0.0}
    for name, least in (('crops of 0.35 to 1', 0.35), ('crops of 0.08 to 1', 0.08)):
        real = real_views(least)
        if real is not None:
            sources |= {f'MobileNetV2, {name}, K = {topk}': (topk, real) for topk in (100, 10)}
            shared[f'as {name}'] = shared_classes(*real, 100)
    for words, fraction in shared.items():
        for scale in (1, 2, 4, 8):
            pair = synthetic_views(21841, scale, 100, fraction)
            sources[f'21841 classes, deviation {scale}, {fraction:.0%} shared {words}'] = 100, pair
    rows = {}
    for source, (topk, (first, second)) in sources.items():
        reference, record = (sparsify(log_prob, topk) for log_prob in (first, second))
        alone, relative = (weigh('smallest', first.shape[1], record, known) for known in (None, reference))
        mean = (alone['bytes'] + 89 * relative['bytes']) / 90
        rows[source] = {'shared': shared_classes(first, second, topk), 'alone': alone['bytes'],
                        'relative': relative['bytes'], 'mean of 90 views': mean,
                        'mean KL, 1e-6 nat': relative['mean KL, 1e-6 nat'], 'top-1 changed': relative['top-1 changed']}
    report('Bytes of the codec smallest, without checksums: a view by itself, and relative to another', rows, json_file)


def divergence(exact: Record, decoded: Record) -> np.ndarray:
    """``(n,)`` nats, both sides normalised in float64."""
    ascending = np.take_along_axis(exact.log_prob, exact.index.argsort(axis=1), 1)
    p, q = (np.concatenate([np.exp(log_prob.astype(np.float64)), record.tail_mass[:, None]], axis=1)
            for log_prob, record in ((ascending, exact), (decoded.log_prob, decoded)))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1)), 0).sum(axis=1)
