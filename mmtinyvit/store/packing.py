"""A unit's record as the bytes of its shard file: a pure function, whoever publishes them and wherever."""
from collections.abc import Callable, Mapping

import numpy as np

from .errors import StoreError
from .layout import Unit
from .manifest import Manifest
from .record import Record, check_record
from .shard import Shard, pack_shard

__all__ = ['pack_unit']


def pack_unit(manifest: Manifest, unit: Unit, record: Record, canaries: Mapping[int, bytes] | None = None,
              reference: Shard | None = None, key: Callable[[int], object] = int) -> list[bytes]:
    """The bytes of a shard file, in pieces. They depend on the arguments alone, so each process makes the same.

    Args:
        manifest: The store's.
        unit: Which shard.
        record: Of the unit's samples, classes in any order. It has partners exactly if the manifest says ``mixing``:
            :func:`~mmtinyvit.store.key_hash` of each, without a salt, so that a reader needs no store to compare it.
        canaries: Digests of 16 bytes by position in the store.
        reference: The shard that the unit is coded relative to, exactly if ``manifest.reference.of(unit)`` names one.
        key: Names a sample by its position in the store, for errors.

    Raises:
        StoreError: The values are not what a softmax gives (the sample is named), partners are missing or not expected,
            or a canary is not one of this shard.
    """
    def name(i: int) -> str:
        return f'sample {key(unit.first + i)!r} in view {unit.view}'

    record = check_record(record, unit.count, manifest.topk, manifest.num_classes, name)
    partner_hash = record.partner_hash
    if manifest.mixing != (partner_hash is not None):
        raise StoreError(f'The store was created with mixing={manifest.mixing}, so its records '
                         f'{"need" if manifest.mixing else "cannot have"} the hash of a partner.')
    if partner_hash is not None:
        partner_hash = np.asarray(partner_hash)
        if partner_hash.shape != (unit.count,) or partner_hash.dtype != np.uint64:
            raise StoreError(f'partner_hash must be uint64 of shape ({unit.count},), not {partner_hash.dtype} of '
                             f'shape {partner_hash.shape}.')
    codec = manifest.record_codec
    known = codec.part(reference.records(), manifest.mixing)[0] if reference else None
    rows = codec.join(codec.encode(record, known), partner_hash)
    return pack_shard(manifest, unit, rows, canaries or {}, reference)
